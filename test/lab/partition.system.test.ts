import { execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { Told } from "../../agent/events/event-log.ts";
import type { Status } from "../../agent/api/status.ts";
import { callUnix } from "../../shared/node/unix-http.ts";
import { eventually, type LabHost, NAMESERVER } from "../support/lab-host.ts";
import { UpstreamDns } from "../support/upstream-dns.ts";
import { addressOf, answering, GONE, OURS, refusal, SLEEP, start } from "./containers.ts";
import { IMAGE, Lab, startAgent, switchOf } from "./lab.ts";
import { allFind, type Member, member } from "./names-lab.ts";
import { Pinging } from "./pinging.ts";
import { toldFromNow } from "./told.ts";

/**
 * Two hosts against two, the controller with the first two: cut in both directions, then in one; then all
 * lose power at once, and the controller does not come back.
 */

vi.setConfig({ testTimeout: 300_000, hookTimeout: 600_000 });

const ENGINES = ["20.10", "26.1", "28.5", "26.1"] as const;
const NEAR = ["p1", "p2"];
const FAR = ["p3", "p4"];
/** Of the one-way cut, after both sides know it: as long as some rounds of questions and dialling take. */
const ONE_WAY_MS = 5000;

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-partition-test-"));
let lab: Lab;
let upstream: UpstreamDns;
let h1: LabHost;
let h2: LabHost;
let h3: LabHost;
let h4: LabHost;
/** c1 on h1, and so on, with the alias `all`. */
let members: Member[];

beforeAll(async () => {
  lab = await Lab.up({ directory, hosts: 4, docker: true, engines: ENGINES, say: () => {} });
  upstream = await UpstreamDns.start(switchOf(lab), NAMESERVER);
  [h1, h2, h3, h4] = lab.hosts as [LabHost, LabHost, LabHost, LabHost];
  await lab.form(() => {});
  for (const network of ["app", "ends", "used"]) {
    await h1.docker(...OURS, network);
    for (const host of lab.hosts) await host.waitForNetwork(network);
  }
  const options = ["--network-alias", "all", "--restart", "always"];
  members = await Promise.all(
    lab.hosts.map((host, i) => member(host, `c${i + 1}`, "app", ...options)),
  );
  await allFind(members, "all", addressesOf(members));
});

afterAll(async () => {
  upstream.close();
  await Lab.down(directory);
});

function addressesOf(some: readonly Member[]): string[] {
  return some.map(({ address }) => address);
}

/** The switch drops every frame from those plugs to those, ARP too. */
function cut(
  ...ways: readonly (readonly [from: readonly string[], to: readonly string[]])[]
): void {
  const rules = ways
    .map(([from, to]) => `iifname { ${from.join(", ")} } oifname { ${to.join(", ")} } drop;`)
    .join(" ");
  const chain = `chain forward { type filter hook forward priority 0; ${rules} };`;
  inSwitch("nft", `table bridge cut { ${chain} }`);
}

function mend(): void {
  inSwitch("nft", "delete table bridge cut");
}

function inSwitch(...command: string[]): void {
  execFileSync("nsenter", [`--net=${switchOf(lab)}`, ...command]);
}

/** Which hosts were lost and found again, in the order in which it was told. */
function reach(events: readonly Told[]): string[] {
  return events
    .flatMap((event) =>
      event.kind === "host-unreachable" || event.kind === "host-back"
        ? `${event.host} ${event.kind}`
        : [],
    )
    .toSorted();
}

/** What `reach` is when each of these was lost once, and came back once. */
function onceLost(...hosts: readonly LabHost[]): string[] {
  return hosts.flatMap(({ name }) => [`${name} host-back`, `${name} host-unreachable`]).toSorted();
}

function others(host: LabHost): LabHost[] {
  return [h1, h2].includes(host) ? [h3, h4] : [h1, h2];
}

/** As the commands ask: a start of Node for each would take most of the time here. */
function ask<T>(host: LabHost, what: string): Promise<T> {
  return callUnix<T>(host.path("/run/overlay-ts/agent.sock"), "GET", `/v1/${what}`);
}

/** All that a host knows of a network, and of whom it knows it: the same on all of them. */
async function known(host: LabHost, network: string): Promise<unknown> {
  const { revision } = await ask<Status>(host, "status");
  const found = await ask<{ readonly members: readonly { readonly endpoint: string }[] }>(
    host,
    `networks/inspect?name=${network}`,
  );
  const sorted = found.members.toSorted((a, b) => (a.endpoint < b.endpoint ? -1 : 1));
  return { ...found, members: sorted, revision };
}

/** Kernels are as the tables say, tables are the same, and all hosts are connected. */
async function allAgree(): Promise<void> {
  for (const host of lab.hosts)
    await eventually(60_000, `agreement on ${host.name}`, async () => {
      expect(await ask(host, "verify")).toEqual({ findings: [] });
      const { peers } = await ask<Status>(host, "status");
      expect(peers.filter(({ connected }) => !connected)).toEqual([]);
      expect(await known(host, "app")).toEqual(await known(h1, "app"));
    });
}

/** Every one of the four reaches all of these, by address or name. */
async function allReach(targets: readonly string[]): Promise<void> {
  for (const { host, name } of members)
    await eventually(20_000, `all of them from ${name}`, async () =>
      expect(await answering(host, name, targets)).toEqual(targets),
    );
}

async function nothingLost(pinging: readonly Pinging[]): Promise<void> {
  for (const one of pinging) {
    const { sent, lost } = await one.stop();
    expect(lost).toEqual([]);
    expect(sent).toBeGreaterThanOrEqual(20);
  }
}

/** On each side one container pings its neighbour. */
async function pingingInside(): Promise<Pinging[]> {
  const [, c2, , c4] = addressesOf(members);
  return [await Pinging.start(h1, "c1", c2 ?? ""), await Pinging.start(h3, "c3", c4 ?? "")];
}

test("cut in two, both sides go on by themselves; when they meet all is as both made it", async () => {
  const near = members.slice(0, 2);
  const far = members.slice(2);
  const goes = [await member(h1, "goes1", "app"), await member(h3, "goes3", "app")];
  const was = await member(h4, "was", "app");
  for (const one of [...goes, was]) await allFind(members, one.name, [one.address]);
  await haveAddresses("used", h3, h4);
  await allAgree();
  const since = await toldFromNow(lab.hosts);
  const pinging = await pingingInside();

  cut([NEAR, FAR], [FAR, NEAR]);
  await allFind(near, "all", addressesOf(near));
  await allFind(far, "all", addressesOf(far));
  const [twin1, twin4] = await Promise.all([member(h2, "twin", "app"), member(h4, "twin", "app")]);
  const came = [await member(h1, "new1", "app"), await member(h3, "new3", "app")];
  await Promise.all([h1.docker("rm", "-f", "goes1"), h3.docker("rm", "-f", "goes3")]);
  await h4.docker("rename", "was", "is");
  await h1.docker("network", "rm", "ends");
  await h1.docker(...OURS, "begins");
  // Nobody needs it, as far as can be known on this side; the other side can use it without asking.
  await h1.docker("network", "rm", "used");
  const used = [await member(h3, "used3", "used"), await member(h4, "used4", "used")];
  pinging.push(await Pinging.start(h3, "used3", used[1]?.address ?? ""));
  await h1.waitForNetwork("used");
  expect(await refusal(h2.overlay("network", "rm", "used"))).toMatch(/may be used on h3, h4/);
  // An address is its host's to give; who gives others cannot be asked.
  const ip = ["run", "--name", "same", "--network", "app", "--ip", twin1.address, ...SLEEP];
  expect(await refusal(h4.docker(...ip))).toMatch(/controller at 198\.51\.100\.1:7952/);
  await h4.docker("rm", "-f", "same");
  expect(await refusal(h3.docker(...OURS, "refused"))).toMatch(/controller at 198\.51\.100\.1/);
  for (const [side, twin] of [[near, twin1] as const, [far, twin4] as const]) {
    await allFind(side, "twin", [twin.address]);
    await allFind(side, "all", addressesOf(side));
  }

  mend();
  const mendedMs = performance.now();
  await allFind(members, "twin", addressesOf([twin1, twin4]));
  await allFind(members, "all", addressesOf(members));
  for (const one of came) await allFind(members, one.name, [one.address]);
  for (const { name } of [...goes, was]) await allFind(members, name, []);
  await allFind(members, "is", [was.address]);
  await allAgree();
  console.info(`all agree ${Math.round(performance.now() - mendedMs)} ms after the cut was mended`);
  await nothingLost(pinging);
  await allFind(used, "used3", addressesOf(used.slice(0, 1)));

  const all = [...members, twin1, twin4, was, ...came];
  await allReach([
    ...addressesOf(all),
    ...[...members, twin1, ...came].map(({ name }) => name),
    "is",
  ]);
  for (const host of lab.hosts) {
    await host.waitForNetwork("begins");
    await eventually(20_000, `the end of a network on ${host.name}`, async () => {
      expect(await refusal(host.docker("network", "inspect", "ends"))).toMatch(GONE);
    });
    await eventually(20_000, `what ${host.name} told of it`, async () => {
      const events = await since(host);
      expect(reach(events)).toEqual(onceLost(...others(host)));
      const comes = events.filter((event) => event.kind === "in" && event.names[0] === "twin");
      expect(new Set(comes.map((event) => "host" in event && event.host))).toEqual(
        new Set(["h2", "h4"]),
      );
      const gone = events.filter((event) => event.kind === "gone" && event.network === "app");
      expect(new Set(gone.map((event) => "names" in event && event.names[0]))).toEqual(
        new Set(["goes1", "goes3"]),
      );
      const networks = events.flatMap((event) =>
        event.kind.startsWith("network-") && "network" in event
          ? `${event.network} ${event.kind.slice("network-".length)}`
          : [],
      );
      expect(networks).toContain("ends ended");
      // With its name already where it was not made.
      expect(networks.some((what) => /^begins (appeared|named)$/.test(what))).toBe(true);
    });
  }
});

test("cut in one direction, each host is lost once for the other side, and what passes still arrives", async () => {
  const near = members.slice(0, 2);
  const far = members.slice(2);
  const since = await toldFromNow(lab.hosts);
  const pinging = await pingingInside();
  cut([NEAR, FAR]);
  // An answer passes one way and the question the other: lost for both.
  await allFind(near, "all", addressesOf(near));
  await allFind(far, "all", addressesOf(far));
  const [c1] = addressesOf(near);
  const before = await questionsTo(h1, "c1");
  expect(await answering(h3, "c3", [c1 ?? ""])).toEqual([]);
  await eventually(10_000, "the question", async () =>
    expect(await questionsTo(h1, "c1")).toBeGreaterThan(before),
  );
  await delay(ONE_WAY_MS);
  for (const host of lab.hosts)
    expect(reach(await since(host))).toEqual(
      others(host).map(({ name }) => `${name} host-unreachable`),
    );

  mend();
  await allFind(members, "all", addressesOf(members));
  await allAgree();
  await allReach(addressesOf(members));
  await nothingLost(pinging);
  for (const host of lab.hosts)
    await eventually(20_000, `what ${host.name} told of it`, async () =>
      expect(reach(await since(host))).toEqual(onceLost(...others(host))),
    );
});

/** They were on the network moments ago, and hold addresses of it; nobody needs it any more. */
async function haveAddresses(network: string, ...hosts: readonly LabHost[]): Promise<void> {
  for (const host of hosts)
    await host.docker("run", "--rm", "--network", network, IMAGE, "/bin/true");
  await eventually(20_000, `word that ${network} is not needed`, async () => {
    expect(await ask(h1, `networks/inspect?name=${network}`)).toMatchObject({ neededBy: [] });
  });
}

/** Echo requests that arrived in the container. */
async function questionsTo(host: LabHost, container: string): Promise<number> {
  const text = await host.docker("exec", container, "/bin/cat", "/proc/net/snmp");
  const [names = [], values = []] = [...text.matchAll(/^Icmp: (.*)$/gm)].map(([, line = ""]) =>
    line.split(" "),
  );
  return Number(values[names.indexOf("InEchos")]);
}

test("all hosts lose power at once: without the controller they find each other from disk", async () => {
  upstream.close();
  await Lab.end(directory);
  lab = await Lab.again(directory);
  upstream = await UpstreamDns.start(switchOf(lab), NAMESERVER);
  [h1, h2, h3, h4] = lab.hosts as [LabHost, LabHost, LabHost, LabHost];
  for (const host of lab.hosts) startAgent(host, true);
  await Promise.all(lab.hosts.map((host, i) => host.startEngine(ENGINES[i] ?? "20.10")));
  const addresses = await Promise.all(
    lab.hosts.map((host, i) =>
      eventually(60_000, `c${i + 1}`, async () => {
        const address = await addressOf(host, `c${i + 1}`, "app");
        expect(address).not.toBe("");
        return address;
      }),
    ),
  );
  members = members.map((one, i) => ({ ...one, host: lab.hosts[i]!, address: addresses[i]! }));
  await allAgree();
  const later = await start(h4, "later", "app");
  await allReach([...addresses, later, "c1", "c2", "c3", "c4", "later"]);
});
