import { expect, test } from "vitest";
import {
  DEFAULT_TRANSIT_POOL,
  type TransitPools,
  transitPools,
} from "../../../agent/core/data-plane/transit.ts";
import { TransitSlots } from "../../../agent/networks/transit-slots.ts";
import { Disk } from "../../../agent/store/disk.ts";
import { MemoryStore } from "../../../agent/store/memory-store.ts";
import type { ClusterState, NetworkRecord } from "../../../shared/cluster-state.ts";
import { NetworkId } from "../../../shared/ids.ts";
import { Cidr } from "../../../shared/ip.ts";
import { app, clusterState } from "../../support/cluster.ts";

const network = (n: number, changes: Partial<NetworkRecord> = {}): NetworkRecord => ({
  ...app,
  id: NetworkId.parse(n.toString(16).padStart(32, "0")),
  name: `n${n}`,
  ...changes,
});
const networks = [0, 1, 2].map((n) => network(n));

function slots(
  options: {
    pools?: TransitPools | undefined;
    state?: ClusterState;
    store?: MemoryStore;
    subnets?: { link: string; subnet: Cidr }[];
  } = {},
): TransitSlots {
  const { state = clusterState(1, { networks }), store = new MemoryStore() } = options;
  return new TransitSlots({
    pools: "pools" in options ? options.pools : transitPools(DEFAULT_TRANSIT_POOL),
    tables: { state },
    hostSubnets: () => options.subnets ?? [],
    disk: new Disk(store),
  });
}

test("each network has two addresses of its own, the same ones after a restart and in any order", () => {
  const store = new MemoryStore();
  const first = slots({ store });
  const given = networks.map((record) => first.of(record));
  expect(
    given.map((transit) => [transit?.link, ...(transit?.ends ?? []).map(String)].length),
  ).toEqual([2, 2, 2]);
  expect(
    given.map((transit) => [transit?.link, transit?.ends[0]?.inside, transit?.ends[0]?.outside]),
  ).toEqual([
    ["ovt0", "198.18.224.1", "198.18.224.0"],
    ["ovt1", "198.18.224.3", "198.18.224.2"],
    ["ovt2", "198.18.224.5", "198.18.224.4"],
  ]);
  const again = slots({ store });
  expect(networks.toReversed().map((record) => again.of(record))).toEqual(given.toReversed());
});

test("what a network that ended had, another gets; one that is still there keeps its own", () => {
  const store = new MemoryStore();
  const all = slots({ store });
  for (const record of networks) all.of(record);
  const now = slots({ store, state: clusterState(1, { networks: networks.slice(1) }) });
  now.forgetEnded();
  expect(now.of(network(3))?.link).toBe("ovt0");
  expect(now.of(networks[2]!)?.link).toBe("ovt2");
});

test("an internal network has none, nor one without IPv4, nor a host that is told so", () => {
  const ipv6 = { ...app.subnets[0]!, subnet: Cidr.parse("fd00:9::/64") };
  expect(slots().of(network(4, { internal: true }))).toBeUndefined();
  expect(slots().of(network(4, { subnets: [ipv6] }))).toBeUndefined();
  expect(slots({ pools: undefined }).of(app)).toBeUndefined();
  expect(slots().of(network(4, { subnets: [...app.subnets, ipv6] }))?.ends).toHaveLength(2);
});

test.each<[string, Parameters<typeof slots>[0], RegExp]>([
  [
    "this host is in",
    { subnets: [{ link: "eth1", subnet: Cidr.parse("198.18.0.0/15") }] },
    /overlap 198\.18\.0\.0\/15 of this host's eth1/,
  ],
  [
    "a network of the cluster has",
    {
      state: clusterState(1, {
        networks: [
          network(7, { subnets: [{ ...app.subnets[0]!, subnet: Cidr.parse("198.18.225.0/24") }] }),
        ],
      }),
    },
    /overlap 198\.18\.225\.0\/24 of the network n7/,
  ],
])("addresses that %s are not taken, and it is said", (_, options, text) => {
  const made = slots(options);
  expect(made.of(app)).toBeUndefined();
  expect(made.failure()?.message).toMatch(text);
});

test("ends that are there are no overlap, and what was given stays when somebody else takes the subnet later", () => {
  const store = new MemoryStore();
  const end = { link: "ovt0", subnet: Cidr.parse("198.18.224.0/31") };
  const before = slots({ store, subnets: [end] }).of(app);
  expect(before?.link).toBe("ovt0");
  const later = slots({ store, subnets: [{ link: "vpn0", subnet: Cidr.parse("198.18.0.0/15") }] });
  expect(later.of(app)).toEqual(before);
  expect(later.of(networks[0]!)).toBeUndefined();
});

test("what is looked for in vain is looked for again when it was told to, and not each time", () => {
  const subnets = [{ link: "vpn0", subnet: Cidr.parse("198.18.0.0/15") }];
  const made = slots({ subnets });
  expect(made.of(app)).toBeUndefined();
  subnets.pop();
  expect(made.of(app)).toBeUndefined();
  made.lookAgain();
  expect(made.of(app)?.link).toBe("ovt0");
  expect(made.failure()).toBeUndefined();
});

test("a small pool is full, and says so", () => {
  const made = slots({ pools: transitPools(Cidr.parse("198.18.224.0/30")) });
  expect(networks.map((record) => made.of(record)?.link)).toEqual(["ovt0", "ovt1", undefined]);
  expect(made.failure()).toMatchObject({ code: "FULL" });
});

test("with a smaller pool than before a network takes a place in it", () => {
  const store = new MemoryStore();
  const large = slots({ store });
  expect(networks.map((record) => large.of(record)?.link)).toEqual(["ovt0", "ovt1", "ovt2"]);
  const state = clusterState(1, { networks: [networks[2]!] });
  const pools = transitPools(Cidr.parse("198.18.224.0/30"));
  for (let start = 0; start < 2; start++) {
    const small = slots({ pools, state, store });
    small.forgetEnded();
    expect(small.of(networks[2]!)?.link).toBe("ovt0");
  }
});

test("that ways out which networks had are switched off is said", () => {
  const store = new MemoryStore();
  const off = { pools: undefined, store };
  expect(slots(off).switchedOff()).toBeUndefined();
  const on = slots({ store });
  on.of(app);
  expect(on.switchedOff()).toBeUndefined();
  const failure = slots(off).switchedOff();
  expect(failure?.message).toContain("OVERLAY_TS_TRANSIT_POOL");
});
