import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type DesiredNetwork, portLink } from "../../agent/core/data-plane/kernel-state.ts";
import { differences } from "../../agent/core/data-plane/differences.ts";
import { HeldNetwork } from "../../agent/core/data-plane/held-network.ts";
import { plan } from "../../agent/core/data-plane/plan.ts";
import { LinuxKernel } from "../../agent/kernel/linux-kernel.ts";
import { LinuxDataPathProof } from "../../agent/kernel/proof/data-path-proof.ts";
import { desiredProof } from "../../agent/core/liveness/proofs.ts";
import { peer, privateKey, wanted } from "../contract/wireguard-contract.ts";
import { addressesOf } from "../../shared/documents.ts";
import {
  app,
  clusterState,
  dataPlane,
  endpoint,
  nodeId,
  present,
  vtepOf,
  withIpv6,
  withWayOut,
} from "../support/cluster.ts";
import { eventually } from "../support/lab-host.ts";
import { changesIn, objectsIn } from "../support/namespace-objects.ts";
import { TestHosts } from "../support/hosts.ts";
import { RealWireguardHosts } from "../support/wireguard-hosts.ts";

/**
 * Everything that we have in a namespace is taken away or changed, one after another: `verify` names it,
 * what can tell of it does, and with the next pass all is as it was.
 */
interface Namespace {
  readonly hosts: TestHosts;
  readonly netns: string;
  readonly faults: () => Promise<string[]>;
  readonly mend: () => Promise<void>;
  readonly losses: () => number;
  /** More than iproute2 can list: commands. */
  readonly settings: readonly string[];
}

async function tamper({
  hosts,
  netns,
  faults,
  mend,
  losses,
  settings,
}: Namespace): Promise<string[]> {
  expect(await faults()).toEqual([]);
  const before = objectsIn(hosts, netns);
  const changes = [
    ...changesIn(hosts, netns),
    ...settings.map((command) => ({ what: command, command, isLoss: false })),
  ];
  for (const { what, command, isLoss } of changes) {
    const toldBefore = losses();
    hosts.in(netns, command);
    expect(await faults(), what).not.toEqual([]);
    // Just after we have written nothing is told: then it is done once more.
    let changed = true;
    if (isLoss)
      await eventually(20_000, `news of ${what}`, async () => {
        if (losses() > toldBefore) return;
        if (changed) await mend();
        else hosts.in(netns, command);
        changed = !changed;
        throw new Error("not told");
      });
    await mend();
    expect(await faults(), what).toEqual([]);
    expect(objectsIn(hosts, netns), what).toBe(before);
  }
  return changes.map(({ what }) => what);
}

describe("the proof's namespace", () => {
  const hosts = new TestHosts(2);
  const proof = new LinuxDataPathProof({
    netnsDirectory: join(hosts.directory, "netns1"),
    hostNetns: join(hosts.directory, "h1"),
  });
  const desired = desiredProof(clusterState(2), nodeId(1))!;
  let losses = 0;
  beforeAll(async () => {
    proof.onLoss(() => losses++);
    await proof.set(desired);
  });
  afterAll(async () => {
    await proof.remove();
    await proof.close();
    hosts.close();
  });

  test("each object of it is named when it is lost or another one, and comes back", async () => {
    const changed = await tamper({
      hosts,
      netns: join(hosts.directory, "netns1/proof"),
      faults: () => proof.faults(desired),
      mend: () => proof.set(desired),
      losses: () => losses,
      settings: ["sysctl -qw net.ipv4.ping_group_range=1\t0"],
    });
    expect(changed.length).toBeGreaterThan(12);
  });
});

describe("WireGuard's namespace", () => {
  const hosts = new RealWireguardHosts(2);
  const desired = (k: number) => wanted(k, [peer(3 - k)]);
  const set = (k: number): Promise<void> => hosts.tunnel(k).set(privateKey(k), desired(k));
  let losses = 0;
  beforeAll(async () => {
    hosts.tunnel(1).onLoss(() => losses++);
    for (const k of [1, 2]) await set(k);
  });
  afterAll(() => hosts.close());

  test("each object of it is named when it is lost or another one, and comes back", async () => {
    const netns = hosts.tunnel(1).transportNetns;
    const changed = await tamper({
      hosts: hosts.hosts,
      netns,
      faults: () => hosts.tunnel(1).faults(privateKey(1), desired(1)),
      mend: () => set(1),
      losses: () => losses,
      settings: [
        "sysctl -qw net.ipv4.ip_no_pmtu_disc=0",
        "sysctl -qw net.ipv4.ip_forward=1",
        "sysctl -qw net.ipv4.ping_group_range=1\t0",
      ],
    });
    expect(changed).toContainEqual(expect.stringMatching(/^route 198\.19\.0\.0\/16 /));
    await eventually(20_000, "an answer", async () => expect(await hosts.reaches(1, 2)).toBe(true));
  });
});

describe("a network's namespace", () => {
  const hosts = new TestHosts(1);
  const kernel = new LinuxKernel({
    netnsDirectory: join(hosts.directory, "netns1"),
    hostNetns: join(hosts.directory, "h1"),
  });
  const netns = join(hosts.directory, "netns1", app.id);
  const [own, other] = [withIpv6(endpoint(1, 5)), withIpv6(endpoint(2, 5))];
  const port = portLink(own.id);
  const desired: DesiredNetwork = {
    ...withWayOut(dataPlane(1)),
    multicast: true,
    flood: [vtepOf(2)],
    ports: [{ endpoint: own.id, mac: own.mac, ips: addressesOf(own) }],
    remotes: [{ vtep: vtepOf(2), members: [{ mac: other.mac, ips: addressesOf(other) }] }],
  };
  let losses = 0;
  const read = () => {
    kernel.recheck();
    return kernel.read(app.id);
  };
  const mend = async () =>
    kernel.apply(app.id, plan(new HeldNetwork(await read()), present(desired)));
  beforeAll(async () => {
    kernel.onChange(() => losses++);
    await mend();
  });
  afterAll(async () => {
    await kernel.apply(app.id, [{ kind: "retract" }]);
    await kernel.close();
    hosts.close();
  });

  test("each object of it is named when it is lost or another one, and comes back", async () => {
    const changed = await tamper({
      hosts,
      netns,
      faults: async () => differences(await read(), present(desired)),
      mend,
      losses: () => losses,
      settings: [
        "sysctl -qw net.ipv4.ip_forward=0",
        "sysctl -qw net.ipv6.conf.all.forwarding=0",
        "sysctl -qw net.ipv6.conf.default.accept_ra=1",
        "sysctl -qw net.ipv4.conf.br0.send_redirects=1",
        "ip -6 route del default",
        "ip -6 route del unreachable fd00:192::/64",
        "ip -6 address add fd00:192::99/128 dev tr0",
        "nft flush chain inet overlay_ts forward",
        "nft flush chain inet overlay_ts postrouting",
        "nft insert rule inet overlay_ts forward accept",
        "nft add chain inet overlay_ts more",
        "nft delete table inet overlay_ts",
        "nft flush set bridge overlay_ts routed",
        "nft flush chain bridge overlay_ts input",
        "ip address add 10.192.0.9/16 dev br0",
        "ip -6 route del fd00:192::/64 dev br0",
        "ip -6 route del local fd00:192::1 dev br0 table local",
        "ip -6 rule del priority 0",
        "ip -6 rule add priority 9 blackhole",
        "ip link set br0 address 02:00:00:00:00:01",
        "ip link set br0 type bridge mcast_snooping 1",
        "ip link set vx0 type vxlan learning",
        "ip link set vx0 type vxlan ttl 3",
        ...[
          "learning on",
          "flood on",
          "mcast_flood off",
          "bcast_flood off",
          "neigh_suppress off",
        ].map((flag) => `bridge link set dev vx0 ${flag}`),
        ...["learning on", "flood on", "locked off"].map(
          (flag) => `bridge link set dev ${port} ${flag}`,
        ),
        "ip link set vx0 nomaster",
        `ip link set ${port} nomaster`,
        "nft flush chain bridge overlay_ts container",
        "nft flush chain bridge overlay_ts prerouting",
        "nft insert rule bridge overlay_ts container accept",
        "nft add chain bridge overlay_ts more",
        "nft flush set bridge overlay_ts ports",
        `nft add element bridge overlay_ts ports { "${port}" . ${own.mac} . 10.192.7.7 }`,
        "nft delete table bridge overlay_ts",
      ],
    });
    expect(changed).toContainEqual(expect.stringMatching(/^FDB .* static/));
  });
});
