import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DesiredGuards } from "../../agent/core/data-plane/kernel-state.ts";
import { LinuxKernel } from "../../agent/kernel/linux-kernel.ts";
import { NftGuards } from "../../agent/kernel/nft/nft-guards.ts";
import { addressesOf, type Endpoint } from "../../shared/documents.ts";
import { app, dataPlane, endpoint, vtepOf } from "../support/cluster.ts";
import { TestHosts } from "../support/hosts.ts";
import { median, round } from "./statistics.ts";

/**
 * What our rules cost a packet: datagrams of 32 bytes to and fro between containers of two hosts, in one thread, so that
 * nothing waits for a processor. In turn as it is, and without one table or the other: `node test/bench/packet-cost.ts`.
 */

const ROUNDS = 9;
const ROUND_TRIPS = 2000;
const PORT = 7948;

const hosts = new TestHosts(2);
const program = mkdtempSync(join(tmpdir(), "overlay-ts-bench-"));
execFileSync("cc", [
  "-O2",
  "-o",
  join(program, "ping-pong"),
  join(import.meta.dirname, "ping-pong.c"),
]);
const ends = [1, 2].map((k) => ({ k, own: endpoint(k, 5), other: endpoint(3 - k, 5) }));

function guardsOf(k: number, other: Endpoint): DesiredGuards {
  const vtep = vtepOf(3 - k);
  return {
    underlayFamily: 4,
    classPorts: { plain: PORT, wireguard: 7949, ipsec: 7950 },
    meshPorts: [7947, 7952],
    ipsec: true,
    exposed: [],
    sealed: [],
    vteps: [vtep],
    hosting: [{ vtep, vni: app.vni }],
    speakers: [{ vtep, vni: app.vni, members: [{ mac: other.mac, ips: addressesOf(other) }] }],
  };
}

const made = await Promise.all(
  ends.map(async ({ k, own, other }) => {
    const host = join(hosts.directory, `h${k}`);
    const netnsDirectory = join(hosts.directory, `netns${k}`);
    const kernel = new LinuxKernel({ netnsDirectory, hostNetns: host });
    const guards = new NftGuards({ hostNetns: host });
    await guards.set(guardsOf(k, other));
    await kernel.apply(app.id, [
      { kind: "extend", desired: dataPlane(k) },
      {
        kind: "putRemotes",
        remotes: [{ mac: other.mac, vtep: vtepOf(3 - k), ips: addressesOf(other) }],
      },
      { kind: "putPort", port: { endpoint: own.id, mac: own.mac, ips: addressesOf(own) } },
    ]);
    const link = kernel.containerLink(own.id);
    const container = hosts.netns(`c${k}`);
    hosts.in(host, `ip link set ${link} netns ${container} name eth0`);
    hosts.in(container, "ip link set eth0 up");
    hosts.in(container, `ip address add ${own.ipv4!}/16 dev eth0`);
    return {
      kernel,
      guards,
      host,
      container,
      network: join(netnsDirectory, app.id),
      address: own.ipv4!,
    };
  }),
);

/** Microseconds. */
function roundTrip(): number {
  const [a, b] = made;
  const args = [a!.container, a!.address, b!.container, b!.address, String(ROUND_TRIPS / 40)];
  return Number(execFileSync(join(program, "ping-pong"), args, { encoding: "utf8" }));
}

const tables = (which: "host" | "network"): string[] =>
  made.map((end) =>
    execFileSync("nsenter", [`--net=${end[which]}`, "nft", "list", "ruleset"], {
      encoding: "utf8",
    }),
  );
const [guardTables, filterTables] = [tables("host"), tables("network")];

function put(which: "host" | "network", rules: readonly string[]): void {
  made.forEach((end, i) =>
    execFileSync("nsenter", [`--net=${end[which]}`, "nft", "-f", "-"], {
      input: `flush ruleset\n${rules[i]}`,
    }),
  );
}

const none = ["", ""];
/** Hooks that Docker's rules have on every host: connection tracking, NAT, a filter that forwards. */
const docker = none.map(
  () => `table ip docker {
  chain nat-in { type nat hook prerouting priority -100; fib daddr type local counter; }
  chain nat-out { type nat hook output priority -100; ip daddr != 127.0.0.0/8 fib daddr type local counter; }
  chain nat-post { type nat hook postrouting priority 100; ip saddr 172.17.0.0/16 oifname != "docker0" masquerade; }
  chain forward { type filter hook forward priority 0; ct state established,related accept; }
}`,
);
const variants: Record<string, [readonly string[], readonly string[]]> = {
  "as it is": [guardTables, filterTables],
  "without guards": [none, filterTables],
  "without the port filter": [guardTables, none],
  "without both": [none, none],
  "Docker's rules alone": [docker, none],
  "as it is beside Docker's": [guardTables.map((rules, i) => rules + docker[i]), filterTables],
};
const found = new Map(Object.keys(variants).map((name) => [name, [] as number[]]));
for (let i = 0; i < ROUNDS; i++)
  for (const [name, [guards, filter]] of Object.entries(variants)) {
    put("host", guards);
    put("network", filter);
    found.get(name)!.push(roundTrip());
  }
const least = median(found.get("without both")!);
for (const [name, times] of found)
  console.log(
    `${name.padEnd(28)} ${round(median(times))} µs a round trip, ${round(median(times) / least)}`,
  );

for (const { kernel, guards } of made) {
  await guards.close();
  await kernel.apply(app.id, [{ kind: "retract" }]);
  await kernel.close();
}
hosts.close();
rmSync(program, { recursive: true });
