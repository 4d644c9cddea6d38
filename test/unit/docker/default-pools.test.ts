import { describe, expect, test } from "vitest";
import { BUILT_IN_POOLS, chosenTwice } from "../../../agent/docker/engine/default-pools.ts";
import type { NetworkRecord } from "../../../shared/cluster-state.ts";
import { NetworkId, Vni } from "../../../shared/ids.ts";
import { Cidr, partOf } from "../../../shared/ip.ts";
import { app } from "../../support/cluster.ts";

/** As the controller records it: Docker's own IPAM has the lower half for good. */
function network(vni: number, subnet: string, ipam: "docker" | "ours" = "docker"): NetworkRecord {
  const cidr = Cidr.parse(subnet);
  const upperHalf = partOf(cidr, 1, 1);
  const dynamicRanges = ipam === "docker" ? [upperHalf] : [partOf(cidr, 2, 1), upperHalf];
  const [{ gateway }] = app.subnets as [NetworkRecord["subnets"][number]];
  return {
    ...app,
    id: NetworkId.parse(vni.toString(16).padStart(32, "0")),
    vni: Vni.parse(vni),
    subnets: [{ subnet: cidr, gateway, dynamicRanges }],
  };
}

describe("a subnet that two engines chose", () => {
  test.each<[string, NetworkRecord, NetworkRecord, boolean]>([
    ["the later one gives way", network(256, "172.18.0.0/16"), network(257, "172.18.0.0/16"), true],
    ["not the earlier one", network(258, "172.18.0.0/16"), network(257, "172.18.0.0/16"), false],
    [
      "whoever has it, and however",
      network(256, "172.18.7.0/24", "ours"),
      network(257, "172.18.0.0/16"),
      true,
    ],
    [
      "of the small pools too",
      network(256, "192.168.16.0/20"),
      network(257, "192.168.16.0/20"),
      true,
    ],
    ["others are free", network(256, "172.18.0.0/16"), network(257, "172.19.0.0/16"), false],
    [
      "one that a user gave may be another's too: by its place",
      network(256, "10.5.0.0/16"),
      network(257, "10.5.0.0/16"),
      false,
    ],
    ["by its size", network(256, "172.18.0.0/24"), network(257, "172.18.0.0/24"), false],
    [
      "and by its IPAM",
      network(256, "172.18.0.0/16"),
      network(257, "172.18.0.0/16", "ours"),
      false,
    ],
  ])("%s", (_, other, made, gives) => {
    const found = chosenTwice(made, [other, made], BUILT_IN_POOLS);
    expect(found).toEqual(gives ? { subnet: made.subnets[0]!.subnet, other } : undefined);
  });

  test("the engine's own pools decide", () => {
    const both = [network(256, "10.5.0.0/24"), network(257, "10.5.0.0/24")];
    const pools = [{ base: Cidr.parse("10.5.0.0/16"), prefixLength: 24 }];
    expect(chosenTwice(both[1]!, both, pools)?.other).toBe(both[0]);
    expect(chosenTwice(both[1]!, both, BUILT_IN_POOLS)).toBeUndefined();
  });
});
