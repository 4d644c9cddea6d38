import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { OverlayError } from "../../shared/errors.ts";
import { startProgram } from "../../shared/node/start-program.ts";

test("a program that is not there is an error with its name", async () => {
  const failed = Promise.withResolvers<OverlayError>();
  expect(startProgram("no-such-program", [], {}, failed.resolve)).toBeUndefined();
  expect(await failed.promise).toMatchObject({
    code: "UNSUPPORTED",
    errno: "ENOENT",
    message: "no-such-program cannot be started: ENOENT",
    next: "install it",
  });
});

test("one that is there runs", async () => {
  const child = startProgram("true", [], { stdio: "pipe" }, () => {});
  const [status] = (await once(child!, "close")) as [number];
  expect(status).toBe(0);
});

/** In a process of its own, which has all files open that it may. */
const OUT_OF_FILES = `
import { openSync } from "node:fs";
import { Nft } from ${JSON.stringify(join(import.meta.dirname, "../../agent/kernel/nft/nft.ts"))};
const nft = new Nft(undefined);
await nft.table("inet", "first").catch(() => {});
try { for (;;) openSync("/dev/null", "r"); } catch {}
let ends = 0;
nft.monitor(() => {}, () => ends++, new AbortController().signal);
const failure = await nft.apply("", "guards").catch((error) => error);
setImmediate(() => setImmediate(() => {
  process.stdout.write(JSON.stringify({ code: failure.code, errno: failure.errno, message: failure.message, ends }));
}));
`;

test("without a free descriptor nft is an error, and nobody's end", () => {
  const node = [process.execPath, "--disable-warning=ExperimentalWarning", "--input-type=module"];
  const command = [...node, "-e", OUT_OF_FILES].map((word) => `'${word.replaceAll("'", "'\\''")}'`);
  const { stdout, stderr, status } = spawnSync("sh", ["-c", `ulimit -n 64; ${command.join(" ")}`], {
    encoding: "utf8",
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(JSON.parse(stdout)).toMatchObject({
    errno: "EMFILE",
    message: "nft cannot be started: EMFILE",
    ends: 1,
  });
});
