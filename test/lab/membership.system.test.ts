import { execFile, spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { Status } from "../../agent/status.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { Lab, switchOf } from "./lab.ts";

/** Who is taken for dead, and how soon (agent/README.md). Figures are printed, never asserted. */

const run = promisify(execFile);
const STARVED_MS = Number(process.env["STARVED_SECONDS"] ?? 120) * 1000;
const CUTS = 5;
vi.setConfig({ testTimeout: STARVED_MS + 300_000 });
const directory = mkdtempSync(join(tmpdir(), "overlay-ts-membership-test-"));
let lab: Lab;
let others: readonly LabHost[];

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 4, docker: false, say: () => {} });
  await lab.form(() => {});
  others = lab.hosts.slice(0, 3);
  await lab.hosts[0]!.overlay("network", "create", "app");
  for (const host of lab.hosts)
    await eventually(20_000, `an address on ${host.name}`, () =>
      host.overlay("network", "expose", "app"),
    );
  for (const host of lab.hosts)
    await eventually(30_000, `all seen by ${host.name}`, async () =>
      expect(await unreached(host)).toEqual([]),
    );
});

afterAll(() => Lab.down(directory));

async function unreached(host: LabHost): Promise<string[]> {
  const { dataPath, peers } = JSON.parse(await host.overlay("status", "--json")) as Status;
  expect(dataPath).toHaveLength(peers.length);
  return dataPath.filter(({ roundTripMs }) => roundTripMs === undefined).map(({ name }) => name);
}

interface Told {
  /** ISO 8601 */
  readonly at: string;
  readonly kind: string;
  readonly host?: string;
}

async function told(host: LabHost): Promise<Told[]> {
  const lines = (await host.overlay("events", "--json", "--since", "1h")).split("\n");
  return lines.filter(Boolean).map((line) => JSON.parse(line) as Told);
}

async function setLink(state: "up" | "down"): Promise<void> {
  await run("nsenter", [`--net=${switchOf(lab)}`, "ip", "link", "set", "p4", state]);
}

test(`nobody is taken for dead in ${STARVED_MS / 1000} s without CPU`, async () => {
  const before = await Promise.all(lab.hosts.map(async (host) => (await told(host)).length));
  // A load average of twenty and more on two cores: an agent gets a tenth of one.
  const hogs = Array.from({ length: 20 }, () =>
    spawn("sh", ["-c", "while :; do :; done"], { stdio: "ignore" }),
  );
  try {
    await delay(STARVED_MS);
  } finally {
    for (const hog of hogs) hog.kill("SIGKILL");
  }
  for (const [i, host] of lab.hosts.entries()) {
    const since = (await told(host)).slice(before[i]);
    expect(since.filter(({ kind }) => kind === "host-unreachable")).toEqual([]);
  }
});

test("a host that is cut off is known as lost by all others, and as back", async () => {
  const took: number[] = [];
  for (let cut = 0; cut < CUTS; cut++) {
    const count = async (host: LabHost, kind: string): Promise<number[]> =>
      (await told(host)).filter((event) => event.kind === kind).map(({ at }) => Date.parse(at));
    const cutMs = Date.now();
    await setLink("down");
    for (const host of others)
      await eventually(30_000, `h4 lost by ${host.name}`, async () =>
        expect((await count(host, "host-unreachable")).length).toBe(cut + 1),
      );
    for (const host of others) took.push((await count(host, "host-unreachable")).at(-1)! - cutMs);
    await setLink("up");
    for (const host of others)
      await eventually(30_000, `h4 back for ${host.name}`, async () =>
        expect((await count(host, "host-back")).length).toBe(cut + 1),
      );
  }
  expect(took.every((ms) => ms > 0)).toBe(true);
  took.sort((a, b) => a - b);
  console.info(`a dead host is known by all after ${took.join(", ")} ms`);
});
