// @module-tag never

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { bundledWith } from "../support/bundled.ts";
import { CRASH_AT, CRASH_POINTS } from "../support/crash-points.ts";
import { ENGINE_KINDS } from "../support/engine-root.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { OURS, start } from "./containers.ts";
import { type Held, held } from "./held.ts";
import { Lab, startAgent } from "./lab.ts";

/**
 * While containers and networks come and go on every host, its agent is killed before and after each of its
 * steps, one after another. Whatever Docker was told meanwhile: in the end all agree, and nothing is left.
 */

vi.setConfig({ testTimeout: 1_200_000, hookTimeout: 300_000 });

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-crash-test-"));
/** On each host, that many do so beside each other. */
const CHURNS = 2;
/** The steps are gone through again until so many containers have started; CRASH_CONTAINERS=200 in the soak. */
const CONTAINERS = Number(process.env["CRASH_CONTAINERS"] ?? 1);
/** A step that does not come in so long is one that nothing here reaches. */
const REACHED_MS = 240_000;
const PROGRAM = mkdtempSync(join(tmpdir(), "overlay-ts-crash-program-"));
let lab: Lab;
let program: Awaited<ReturnType<typeof bundledWith>>;

beforeAll(async () => {
  program = await bundledWith("crash-points", "test/support/crash-points.ts", PROGRAM);
  lab = await Lab.up({
    directory,
    hosts: 3,
    docker: true,
    engines: ENGINE_KINDS,
    say: () => {},
  });
  await lab.form(() => {});
  await lab.hosts[0]!.docker(...OURS, "app");
  for (const host of lab.hosts) await host.waitForNetwork("app");
  for (const host of lab.hosts) await start(host, `stays-${host.name}`, "app");
});

afterAll(async () => {
  await Lab.down(directory);
  rmSync(PROGRAM, { recursive: true });
});

/** By name. */
const started: string[] = [];

/** Containers on the network of all, and on one of their own; what Docker refuses meanwhile is refused. */
async function churn(host: LabHost, which: number, signal: AbortSignal): Promise<void> {
  const docker = (...args: string[]): Promise<boolean> =>
    host.docker(...args).then(
      () => true,
      () => false,
    );
  for (let i = 0; !signal.aborted; i++) {
    const own = `own-${host.name}-${which}-${i}`;
    const run = async (name: string, network: string): Promise<void> => {
      const container = ["run", "-d", "--name", name, "--network", network, "--stop-timeout", "0"];
      if (await docker(...container, "overlay-ts-lab", "/bin/sleep", "1000")) started.push(name);
      await docker("rm", "-f", name);
    };
    await docker(...OURS, own);
    await Promise.all([run(`a-${own}`, "app"), run(`b-${own}`, own)]);
    await docker("network", "rm", own);
  }
}

/** @returns the points that were not reached. */
async function killAtEach(host: LabHost, points: readonly string[]): Promise<string[]> {
  const unreached: string[] = [];
  for (const point of points) {
    const options = `NODE_OPTIONS=--import=file://${program.entry}`;
    // The second time: the first is often the start's own.
    const crash = `${CRASH_AT}=${point}:2`;
    const agent = host.service("agent", "env", options, crash, program.command, "agent");
    const killed = await Promise.race([
      once(agent, "exit").then(([status, signal]) => status === 137 || signal === "SIGKILL"),
      delay(REACHED_MS, undefined, { ref: false }),
    ]);
    // Another end than the one that was asked for says why.
    if (killed === false) throw new Error(`${point}: ${host.log("agent").slice(-2000)}`);
    if (killed) continue;
    unreached.push(point);
    await host.stopService("agent", "KILL");
  }
  return unreached;
}

/** What a churn left when a call of its was refused. */
async function tidy(host: LabHost): Promise<void> {
  const names = async (...list: string[]): Promise<string[]> =>
    (await host.docker(...list)).split("\n").filter(Boolean);
  for (const name of await names("ps", "-aq", "--filter", "name=own-"))
    await host.docker("rm", "-f", name);
  for (const name of await names("network", "ls", "--filter", "name=own-", "--format", "{{.Name}}"))
    await host.overlay("network", "rm", name).catch(() => "");
  expect(await names("network", "ls", "-q", "--filter", "name=own-")).toEqual([]);
}

/** For whoever is to find out what leaked. */
async function whatItHolds(host: LabHost): Promise<string> {
  const asked = [["verify"], ["network", "ls", "--json"], ["endpoint", "ls", "--json"], ["events"]];
  const said = asked.map((words) =>
    host.overlay(...words).catch((error: unknown) => JSON.stringify(error)),
  );
  return [host.name, ...(await Promise.all(said)), host.log("agent").slice(-20_000)].join("\n");
}

test(`agents are killed before and after each of ${CRASH_POINTS.length / 2} steps`, async () => {
  const before: Held[] = [];
  for (const host of lab.hosts) {
    await eventually(60_000, "agreement", () => host.agrees());
    before.push(await held(host));
  }
  for (const host of lab.hosts) await host.stopService("agent", "KILL");
  const over = new AbortController();
  const churning = lab.hosts.flatMap((host) =>
    Array.from({ length: CHURNS }, (_, which) => churn(host, which, over.signal)),
  );
  const share = (k: number): string[] => CRASH_POINTS.filter((_, i) => i % lab.hosts.length === k);
  const unreached: string[] = [];
  let rounds = 0;
  do {
    rounds++;
    const each = await Promise.all(lab.hosts.map((host, k) => killAtEach(host, share(k))));
    unreached.push(...each.flat());
  } while (started.length < CONTAINERS);
  for (const host of lab.hosts) startAgent(host, true);
  over.abort();
  await Promise.all(churning);
  console.info(
    `${rounds * CRASH_POINTS.length} kills, ${started.length} containers started meanwhile`,
  );
  expect(unreached).toEqual([]);
  for (const host of lab.hosts) await eventually(120_000, `${host.name} tidied`, () => tidy(host));
  for (const [k, host] of lab.hosts.entries()) {
    await eventually(120_000, `agreement on ${host.name}`, () => host.agrees());
    await eventually(150_000, `nothing left on ${host.name}`, async () =>
      expect(await held(host)).toEqual(before[k]),
    ).catch(async (error: unknown) => {
      for (const each of lab.hosts) console.error(await whatItHolds(each));
      throw error;
    });
  }
});
