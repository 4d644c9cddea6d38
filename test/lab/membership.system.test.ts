import { execFile, spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { DEFAULT_PRESENCE_OPTIONS } from "../../agent/core/liveness/failure-detector.ts";
import type { Told } from "../../agent/events/event-log.ts";
import type { Status } from "../../agent/api/status.ts";
import { callUnix } from "../../shared/node/unix-http.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { Lab, switchOf } from "./lab.ts";
import { toldFromNow } from "./told.ts";

/**
 * Who is taken for dead, and how soon (agent/membership/who-is-there.md). Figures are printed, never asserted.
 * MEMBERSHIP_HOSTS=50 needs 6 GB, and some minutes until they all stand.
 */

const run = promisify(execFile);
/** Ten times what a dead host has; an hour in the soak. */
const STARVED_MS = Number(process.env["STARVED_SECONDS"] ?? 20) * 1000;
const HOSTS = Number(process.env["MEMBERSHIP_HOSTS"] ?? 4);
const CUTS = 3;
vi.setConfig({ testTimeout: STARVED_MS + 300_000, hookTimeout: 300_000 + HOSTS * 20_000 });
const directory = mkdtempSync(join(tmpdir(), "overlay-ts-membership-test-"));
let lab: Lab;
/** The one that is cut off. */
let last: LabHost;
let others: readonly LabHost[];

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: HOSTS, docker: false, say: () => {} });
  await lab.form(() => {});
  others = lab.hosts.slice(0, -1);
  last = lab.hosts.at(-1)!;
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

afterAll(async () => {
  await Lab.down(directory);
});

async function unreached(host: LabHost): Promise<string[]> {
  const socket = host.path("/run/overlay-ts/agent.sock");
  const { dataPath, peers } = await callUnix<Status>(socket, "GET", "/v1/status");
  expect(dataPath).toHaveLength(peers.length);
  return dataPath.filter(({ roundTripMs }) => roundTripMs === undefined).map(({ name }) => name);
}

async function setLink(state: "up" | "down"): Promise<void> {
  await run("nsenter", [`--net=${switchOf(lab)}`, "ip", "link", "set", `p${HOSTS}`, state]);
}

test(`nobody is taken for dead in ${STARVED_MS / 1000} s without CPU`, async () => {
  const since = await toldFromNow(lab.hosts);
  // A load average of twenty and more on two cores: an agent gets a tenth of one.
  const hogs = Array.from({ length: 20 }, () =>
    spawn("sh", ["-c", "while :; do :; done"], { stdio: "ignore" }),
  );
  try {
    await delay(STARVED_MS);
  } finally {
    for (const hog of hogs) hog.kill("SIGKILL");
  }
  for (const host of lab.hosts) {
    const unreachable = (await since(host)).filter(({ kind }) => kind === "host-unreachable");
    expect(unreachable).toEqual([]);
  }
});

/** What is changed in a host's FDB and neighbours of the network from now on, in the words of iproute2. */
async function changesFromNow(host: LabHost): Promise<() => string[]> {
  const names = (await host.exec("ls", "/run/overlay-ts/netns")).trim().split("\n");
  const network = names.filter((name) => name !== "proof");
  expect(network).toHaveLength(1);
  const enter = ["nsenter", `--net=/run/overlay-ts/netns/${network[0]}`];
  // They end with the lab.
  host.service("fdb-changes", ...enter, "bridge", "monitor", "fdb");
  host.service("neighbour-changes", ...enter, "ip", "monitor", "neigh");
  return () => [host.log("fdb-changes"), host.log("neighbour-changes")];
}

test("a host that is cut off is known as lost by all others, and as back", async () => {
  const took: number[] = [];
  const changes = await changesFromNow(others[0]!);
  for (let cut = 0; cut < CUTS; cut++) {
    // At another moment between two questions each time; all were answered just now.
    await delay((cut * DEFAULT_PRESENCE_OPTIONS.nearPeriodMs) / CUTS);
    const since = await toldFromNow(others);
    const when = async (host: LabHost, kind: Told["kind"]): Promise<number> => {
      const found = (await since(host)).find((event) => event.kind === kind);
      expect(found).toMatchObject({ host: last.name });
      return Date.parse((found as { at: string }).at);
    };
    const cutMs = Date.now();
    await setLink("down");
    for (const host of others)
      took.push(
        (await eventually(30_000, `${last.name} lost by ${host.name}`, () =>
          when(host, "host-unreachable"),
        )) - cutMs,
      );
    // Longer than an agent needs to find that its address is gone: without a carrier it is there.
    if (cut === 0) await delay(5000);
    await setLink("up");
    for (const host of others)
      await eventually(30_000, `${last.name} back for ${host.name}`, () => when(host, "host-back"));
  }
  expect(last.log("agent")).not.toContain("the agent cannot run");
  // A link that comes and goes changes who is answered, nothing else; when the host does leave, it shows.
  expect(changes()).toEqual(["", ""]);
  await last.overlay("network", "hide", "app");
  await eventually(20_000, `the entries of ${last.name} gone from ${others[0]!.name}`, async () => {
    for (const told of changes()) expect(told).toMatch(/Deleted/);
  });
  took.sort((a, b) => a - b);
  const median = took[Math.floor(took.length / 2)];
  console.info(
    `${CUTS} times a dead host, ${others.length} others: known after ${median} ms (median), ${took.at(-1)} (worst); after 3 s: ${took.filter((ms) => ms > 3000).length} of ${took.length}`,
  );
});
