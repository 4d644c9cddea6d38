import { describe, expect, test } from "vitest";
import type { Paths } from "../../../agent/core/data-plane/desired-network.ts";
import {
  ANSWERS_IN_IPSEC,
  askedThroughWireguard,
  desiredIpsecProof,
  desiredProof,
} from "../../../agent/core/liveness/proofs.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import type { SecurityClass } from "../../../shared/cluster-state.ts";
import { Ip } from "../../../shared/ip.ts";
import { app, clusterState, hostDocument, nodeId, vtepOf } from "../../support/cluster.ts";

const self = nodeId(1);

/** Hosts 1 to 4; those of `on` are on a network of the kind, those of `old` are of 0.1.0. */
function tablesOf(encryption: SecurityClass, on: readonly number[], old: readonly number[] = []) {
  const tables = new Tables();
  const [first, second, third, fourth] = clusterState(4).nodes;
  const nodes = [
    first!,
    second!,
    { ...third!, behindNat: Ip.parse("192.168.1.7") },
    { ...fourth!, underlayMtuBytes: 1400 },
  ];
  tables.mergeState(clusterState(4, { nodes, networks: [{ ...app, encryption }] }));
  for (const k of [1, 2, 3, 4])
    tables.mergeHost(
      hostDocument(k, {
        capabilities: old.includes(k) ? [] : [ANSWERS_IN_IPSEC],
        hosting: on.includes(k) ? [app.id] : [],
      }),
    );
  return tables;
}

function paths(encryption: SecurityClass, to: readonly number[]): Paths {
  return {
    encryption,
    local: vtepOf(1),
    remote: new Map(to.map((k) => [nodeId(k), vtepOf(k)])),
  };
}

const nodesOf = (asked: { peers: readonly { node: string }[] } | undefined) =>
  asked?.peers.map(({ node }) => node);

describe("who is asked, and through what", () => {
  test("in clear everybody, at the size that all of them carry; not through NAT", () => {
    const asked = desiredProof(tablesOf("none", []).state!, self);
    expect(nodesOf(asked)).toEqual([nodeId(2), nodeId(4)]);
    expect(asked).toMatchObject({ vni: 1, udpPort: 7948, mtuBytes: 1350 });
  });

  test("through WireGuard those who share a network of it and have a path, also through NAT", () => {
    const of = (on: number[], to: number[]) =>
      askedThroughWireguard(tablesOf("wireguard", on, [2]), self, paths("wireguard", to));
    expect(nodesOf(of([1, 2, 3, 4], [2, 3, 4]))).toEqual([nodeId(2), nodeId(3), nodeId(4)]);
    expect(nodesOf(of([1, 2, 3], [2]))).toEqual([nodeId(2)]);
    expect(nodesOf(of([2, 3], [2, 3]))).toEqual([]);
    expect(of([1, 2], [2])).toMatchObject({ mtuBytes: 1340 });
  });

  test("through IPsec the same, but those who say that they answer: not a host of 0.1.0", () => {
    const of = (on: number[], to: number[], old: number[] = []) =>
      desiredIpsecProof(tablesOf("ipsec", on, old), self, paths("ipsec", to));
    expect(nodesOf(of([1, 2, 4], [2, 4]))).toEqual([nodeId(2), nodeId(4)]);
    expect(nodesOf(of([1, 2, 4], [2]))).toEqual([nodeId(2)]);
    expect(nodesOf(of([1, 2, 4], [2, 4], [4]))).toEqual([nodeId(2)]);
    expect(of([1, 2], [2])).toMatchObject({ vni: 2, udpPort: 7950, localVtep: vtepOf(1) });
  });

  test("nobody, where the class cannot be used: what is there stays", () => {
    expect(askedThroughWireguard(tablesOf("wireguard", [1, 2]), self, undefined)).toBeUndefined();
    expect(desiredIpsecProof(tablesOf("ipsec", [1, 2]), self, undefined)).toBeUndefined();
  });
});
