import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readEnvironment } from "../../../agent/cli/environment.ts";

const root = join(import.meta.dirname, "../../..");

describe("the environment", () => {
  test("what is not set is as ever", () => {
    expect(readEnvironment({ PATH: "/bin", OVERLAY: "x" })).toEqual({
      dataDirectory: "/var/lib/overlay-ts",
      runDirectory: "/run/overlay-ts",
      logLevel: "info",
      token: undefined,
      patienceMs: undefined,
      transitPool: "198.18.224.0/19",
      metrics: undefined,
      debug: false,
    });
  });

  test("a host's ways out have other addresses, or there are none", () => {
    const pool = (value: string) => readEnvironment({ OVERLAY_TS_TRANSIT_POOL: value }).transitPool;
    expect([pool("100.127.0.0/20"), pool("off")]).toEqual(["100.127.0.0/20", undefined]);
  });

  test("metrics are at one address and a port of it", () => {
    const at = (value: string) => readEnvironment({ OVERLAY_TS_METRICS: value }).metrics;
    expect(at("127.0.0.1:9948")).toEqual({ ip: "127.0.0.1", port: 9948 });
    expect(at("[2001:db8::1]:9948")).toEqual({ ip: "2001:db8::1", port: 9948 });
  });

  test.each([
    "9948",
    ":9948",
    "127.0.0.1",
    "127.0.0.1:0",
    "127.0.0.1:65536",
    "0.0.0.0:9948",
    "[::]:9948",
    "::1:9948",
    "[127.0.0.1]:9948",
    "localhost:9948",
    "",
  ])("%j is none", (value) => {
    expect(() => readEnvironment({ OVERLAY_TS_METRICS: value })).toThrow(
      /OVERLAY_TS_METRICS is not one address and a port/,
    );
  });

  test("a slow machine's patience is a number", () => {
    expect(readEnvironment({ OVERLAY_TS_PATIENCE_MS: "600000" }).patienceMs).toBe(600_000);
  });

  test.each<[Record<string, string>, RegExp]>([
    [{ OVERLAY_TS_LOGLEVEL: "debug" }, /knows no environment variable OVERLAY_TS_LOGLEVEL/],
    [{ OVERLAY_TS_: "x" }, /knows no environment variable OVERLAY_TS_/],
    [{ OVERLAY_TS_LOG_LEVEL: "loud" }, /OVERLAY_TS_LOG_LEVEL is not one of trace, debug/],
    [{ OVERLAY_TS_LOG_LEVEL: "" }, /OVERLAY_TS_LOG_LEVEL is not one of/],
    [{ OVERLAY_TS_DATA_DIR: "" }, /OVERLAY_TS_DATA_DIR is not an absolute path/],
    [{ OVERLAY_TS_PATIENCE_MS: "2s" }, /OVERLAY_TS_PATIENCE_MS is not a number of milliseconds/],
    [{ OVERLAY_TS_TRANSIT_POOL: "10.0.0.1/32" }, /POOL is neither an IPv4 subnet of .* nor `off`/],
    [{ OVERLAY_TS_TRANSIT_POOL: "fd00::/64" }, /POOL is neither an IPv4 subnet of .* nor `off`/],
    [{ OVERLAY_TS_RUN_DIR: "run" }, /OVERLAY_TS_RUN_DIR is not an absolute path/],
  ])("%j is refused by name", (variables, reason) => {
    expect(() => readEnvironment(variables)).toThrow(reason);
  });

  test("a value is never repeated: it could be a token", () => {
    const variables = { OVERLAY_TS_DATA_DIR: "ovt1.secret", OVERLAY_TS_TOKEN: "ovt1.secret" };
    expect(() => readEnvironment(variables)).toThrow(expect.not.stringContaining("secret"));
  });

  test("every variable that the project names is known", () => {
    const folders = "{agent,controller,shared,deploy,test/bench,test/lab,test/support}/**/*";
    const files = globSync(folders, { cwd: root, withFileTypes: true }).filter((entry) =>
      entry.isFile(),
    );
    const named = files.flatMap((entry) => {
      const text = readFileSync(join(entry.parentPath, entry.name), "utf8");
      return text.match(/\bOVERLAY_TS_[A-Z_]*[A-Z]\b/g) ?? [];
    });
    expect(new Set(named)).toContain("OVERLAY_TS_TOKEN");
    const valueOf = (name: string): string =>
      ({ LEVEL: "info", MS: "1", POOL: "off", METRICS: "[::1]:1" })[/[A-Z]+$/.exec(name)![0]] ??
      "/x";
    for (const name of new Set(named))
      expect(() => readEnvironment({ [name]: valueOf(name) })).not.toThrow();
  });
});
