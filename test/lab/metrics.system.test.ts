import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { Lab } from "./lab.ts";

/** What Debian's Prometheus makes of a host's metrics, of the rules for them, and of both together. */

const root = join(import.meta.dirname, "../..");
const directory = mkdtempSync(join(tmpdir(), "overlay-ts-metrics-test-"));
let programs: string;
let lab: Lab;
let h1: LabHost;

function promtool(input: string, ...args: string[]): { status: number | null; said: string } {
  const options = { input, encoding: "utf8", cwd: join(root, "deploy/prometheus") } as const;
  const { status, stdout, stderr } = spawnSync(join(programs, "promtool"), args, options);
  return { status, said: stdout + stderr };
}

beforeAll(async () => {
  programs = execFileSync(join(root, "test/support/debian-prometheus"), {
    encoding: "utf8",
  }).trim();
  // Of all that is started on its hosts.
  vi.stubEnv("OVERLAY_TS_METRICS", "127.0.0.1:9948");
  lab = await Lab.up({ directory, hosts: 2, docker: false, say: () => {} });
  await lab.form(() => {});
  h1 = lab.host("h1");
  await h1.overlay("network", "create", "app");
  await eventually(20_000, "an address on h1", () => h1.overlay("network", "expose", "app"));
});

afterAll(async () => {
  vi.unstubAllEnvs();
  await Lab.down(directory);
});

test.each([
  ["the rules are rules", "check", "rules", "alerts.yml"],
  ["each alert fires when it shall, and none when all is well", "test", "rules", "alerts.test.yml"],
  ["the example is a configuration", "check", "config", "prometheus.yml"],
])("promtool: %s", (_, ...args) => {
  expect(promtool("", ...args)).toMatchObject({ status: 0 });
});

test("promtool: what an agent and a controller say is well formed and well named", async () => {
  const text = await h1.overlay("metrics");
  expect(text).toContain("overlay_ts_up 1\n");
  expect(text).toContain("overlay_ts_nodes 2\n");
  expect(promtool(text, "check", "metrics")).toEqual({ status: 0, said: "" });
});

test("a real Prometheus scrapes a host, and has its numbers and no alert of what is well", async () => {
  await h1.overlay("controller", "backup", join(h1.directory, "tmp/backup"));
  const config = join(h1.directory, "prometheus.yml");
  writeFileSync(
    config,
    JSON.stringify({
      global: { scrape_interval: "1s", evaluation_interval: "1s" },
      rule_files: [join(root, "deploy/prometheus/alerts.yml")],
      scrape_configs: [
        { job_name: "overlay-ts", static_configs: [{ targets: ["127.0.0.1:9948"] }] },
      ],
    }),
  );
  h1.service(
    "prometheus",
    join(programs, "prometheus"),
    `--config.file=${config}`,
    `--storage.tsdb.path=${join(h1.directory, "tmp/prometheus")}`,
    "--web.listen-address=127.0.0.1:9090",
  );
  const get = async <T>(path: string): Promise<T> => {
    const url = `http://127.0.0.1:9090/api/v1/${path}`;
    const answer = await h1.exec("/bin/busybox", "wget", "-q", "-O", "-", url);
    return (JSON.parse(answer) as { data: T }).data;
  };
  const asked = async (expr: string): Promise<string[]> => {
    const path = `query?query=${encodeURIComponent(expr)}`;
    const { result } = await get<{ result: { value: [number, string] }[] }>(path);
    return result.map(({ value }) => value[1]);
  };
  const says = (expr: string, value: string) =>
    eventually(30_000, expr, async () => expect(await asked(expr)).toEqual([value]));
  await says('up{job="overlay-ts"}', "1");
  await says('overlay_ts_peers{state="reached"}', "1");
  await says('overlay_ts_network_endpoints{network="app",where="here"}', "1");
  await says("overlay_ts_probe_rtt_seconds_count > bool 0", "1");
  await says("overlay_ts_nodes", "2");
  await says("time() - overlay_ts_last_backup_time_seconds < bool 600", "1");
  await eventually(30_000, "all rules to be computed", async () => {
    const { groups } = await get<{ groups: { rules: { health: string }[] }[] }>("rules");
    expect(groups.flatMap(({ rules }) => rules.map(({ health }) => health))).toEqual(
      Array<string>(13).fill("ok"),
    );
  });
  expect(await asked('ALERTS{alertstate="firing"}')).toEqual([]);
});
