import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { eventually, type LabHost, OVERLAY_TS } from "../support/lab-host.ts";
import { OURS, reaches, start } from "./containers.ts";
import { Lab, startAgent } from "./lab.ts";
import { Looking } from "./looking.ts";
import { askingIn } from "./names-lab.ts";
import { olderProgram } from "./older-version.ts";
import { Pinging } from "./pinging.ts";

/**
 * Real processes of 0.1.0 in one cluster with this version's: hosts are upgraded one after the other, the controller's host
 * last, and meanwhile packets, names, new containers and new networks go on.
 */

vi.setConfig({ testTimeout: 900_000, hookTimeout: 900_000 });

const older = mkdtempSync(join(tmpdir(), "overlay-ts-0.1.0-"));
const directory = mkdtempSync(join(tmpdir(), "overlay-ts-upgrade-test-"));
let lab: Lab;
let h1: LabHost;
let h2: LabHost;
let h3: LabHost;

interface Member {
  readonly host: LabHost;
  readonly name: string;
  readonly address: string;
}
/** On `app`, in the order in which they started. */
const members: Member[] = [];

beforeAll(async () => {
  const program = olderProgram(older);
  lab = await Lab.up({ directory, hosts: 3, docker: true, program, say: () => {} });
  [h1, h2, h3] = lab.hosts as [LabHost, LabHost, LabHost];
  await lab.form(() => {});
  await network(h1, "app", "10.90.0.0/22");
  for (const host of lab.hosts) await runs(host, `first-${host.name}`);
});

afterAll(async () => {
  await Lab.down(directory);
  rmSync(older, { recursive: true, force: true });
});

async function network(host: LabHost, name: string, subnet: string): Promise<void> {
  await host.docker(...OURS, "--subnet", subnet, name);
  for (const each of lab.hosts) await each.waitForNetwork(name);
}

/** One more container, which all others of the network find by its name and reach, and it them. */
async function runs(host: LabHost, name: string): Promise<void> {
  const address = await start(host, name, "app");
  const came = { host, name, address };
  for (const other of members) {
    await eventually(30_000, `${name} in names of ${other.name}`, async () =>
      expect(await (await askingIn(other.host, other.name)).addresses(name)).toEqual([address]),
    );
    await reaches(other.host, other.name, address);
    await reaches(host, name, other.address);
  }
  members.push(came);
}

/** As the package's upgrade does it: the service ends, and starts as this version. */
async function upgradeAgent(host: LabHost): Promise<void> {
  await host.stopService("agent", "TERM");
  host.program = OVERLAY_TS;
  startAgent(host, true);
  await eventually(60_000, `this version's agent on ${host.name}`, async () =>
    expect(await host.status()).toMatchObject({
      joined: true,
      docker: { reachable: true },
      problems: [],
    }),
  );
}

async function upgradeController(): Promise<void> {
  await h1.stopService("controller", "TERM");
  h1.startController();
  await eventually(60_000, "this version's controller", () => h1.overlay("token", "create"));
}

async function agree(): Promise<void> {
  for (const host of lab.hosts)
    if (host.program === OVERLAY_TS)
      await eventually(60_000, `agreement on ${host.name}`, () => host.agrees());
}

/** Nothing of what ran before is missed meanwhile: neither packets both ways, nor names of other hosts. */
async function meanwhile(from: LabHost, to: LabHost, work: () => Promise<void>): Promise<void> {
  const [a, b] = [from, to].map((host) => members.find((member) => member.host === host)!) as [
    Member,
    Member,
  ];
  const pinging = [
    await Pinging.start(a.host, a.name, b.address),
    await Pinging.start(b.host, b.name, a.address),
  ];
  const looking = new Looking(await askingIn(a.host, a.name), b.name, [b.address]);
  const sinceMs = performance.now();
  await work();
  for (const one of pinging) {
    const { sent, lost } = await one.stop();
    expect(lost).toEqual([]);
    expect(sent).toBeGreaterThanOrEqual(20);
  }
  await looking.stop();
  expect(looking.missedSince(sinceMs)).toEqual([]);
}

test("hosts one after the other, then the controller: packets, names, containers and networks go on", async () => {
  // Of who is not upgraded yet, and of who is: nobody misses that the third one goes over.
  for (const [host, from, to] of [
    [h3, h1, h3],
    [h2, h1, h2],
    [h1, h2, h3],
  ] as const) {
    await meanwhile(from, to, async () => {
      await upgradeAgent(host);
      await runs(host, `upgraded-${host.name}`);
    });
    for (const each of lab.hosts) await runs(each, `beside-${host.name}-on-${each.name}`);
    await network(host, `made-by-${host.name}`, `10.9${host.name.slice(1)}.4.0/24`);
    const old = lab.hosts.filter(({ program }) => program !== OVERLAY_TS).map(({ name }) => name);
    await eventually(30_000, "who needs the state whole", async () =>
      expect((await host.status()).needStateWhole.toSorted()).toEqual(old.toSorted()),
    );
    await agree();
  }
  await meanwhile(h2, h3, upgradeController);
  for (const host of lab.hosts) await runs(host, `after-on-${host.name}`);
  await network(h2, "after", "10.99.4.0/24");
  await agree();
  // A change is all that travels by now.
  for (const host of [h2, h3])
    await eventually(30_000, `changes at ${host.name}`, async () =>
      expect((await host.status()).counters.cluster["followed"]).toBeGreaterThan(0),
    );
});
