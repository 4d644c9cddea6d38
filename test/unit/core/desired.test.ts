import { describe, expect, test } from "vitest";
import { desiredProof } from "../../../agent/core/liveness/proofs.ts";
import { changeOwn } from "../../../agent/core/tables/own-documents.ts";
import { desiredGuards } from "../../../agent/core/data-plane/desired-guards.ts";
import { desired, type Paths, plainPaths } from "../../../agent/core/data-plane/desired-network.ts";
import { entriesOf } from "../../../agent/core/data-plane/plan.ts";
import { readNetwork } from "../../../agent/core/data-plane/read-network.ts";
import { outermost } from "../../../agent/core/data-plane/sealed.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { sha256 } from "../../../shared/node/system.ts";
import type { ClusterState, NetworkRecord } from "../../../shared/cluster-state.ts";
import type { Endpoint } from "../../../shared/documents.ts";
import { Cidr, Ip } from "../../../shared/ip.ts";
import { derivedMacs, Mac, ruleMac } from "../../../shared/mac.ts";
import {
  app,
  clusterState,
  endpoint,
  hashSigner,
  hostDocument,
  node,
  nodeId,
  withIpv6,
} from "../../support/cluster.ts";

function tablesWith(
  documents: Readonly<Record<number, Endpoint[]>>,
  state: Partial<ClusterState> = {},
): Tables {
  const tables = new Tables();
  tables.mergeState(clusterState(3, state));
  for (const [k, endpoints] of Object.entries(documents)) {
    const node = nodeId(Number(k));
    const own = { node, hasher: sha256, signer: hashSigner(node) };
    tables.mergeNetwork(changeOwn(own, app.id, undefined, endpoints, []).document);
  }
  return tables;
}

const reasons = (tables: Tables): string[] =>
  readNetwork(tables, app).ignored.map(({ reason }) => reason);
const freeMac = Mac.parse("02:aa:00:00:00:01");
const { gateway } = app.subnets[0]!;

describe("desired", () => {
  test("of a host that says it is on the network no more, nothing counts, whatever its document holds", () => {
    const tables = tablesWith({ 1: [endpoint(1, 5)], 2: [endpoint(2, 5)], 3: [endpoint(3, 6)] });
    const macs = () =>
      entriesOf(
        desired(tables, nodeId(1), app.id, plainPaths(tables, nodeId(1)))?.remotes ?? [],
      ).map(({ mac }) => mac);
    const both = [endpoint(2, 5).mac, endpoint(3, 6).mac];
    expect(macs()).toEqual(both);
    tables.mergeHost(hostDocument(2, { hosting: [app.id] }));
    expect(macs()).toEqual(both);
    const left = { ...hostDocument(2), version: { incarnation: 1, seq: 2 } };
    tables.mergeHost(left);
    expect(macs()).toEqual([endpoint(3, 6).mac]);
    expect(reasons(tables)).toEqual(["not-hosting"]);
    tables.mergeHost({
      ...hostDocument(2, { hosting: [app.id] }),
      version: { incarnation: 1, seq: 3 },
    });
    expect(macs()).toEqual(both);
  });

  test("remote containers by their host's VTEP, local ones as ports", () => {
    const tables = tablesWith({ 1: [endpoint(1, 5)], 2: [endpoint(2, 5)], 3: [endpoint(3, 6)] });
    expect(desired(tables, nodeId(1), app.id, plainPaths(tables, nodeId(1)))).toMatchObject({
      vni: 256,
      udpPort: 7948,
      localVtep: "198.51.100.1",
      gateways: [{ ip: "10.192.0.1", prefixLength: 16 }],
      ports: [{ endpoint: endpoint(1, 5).id, ips: ["10.192.1.5"] }],
      remotes: [
        {
          vtep: "198.51.100.2",
          members: [{ mac: "02:42:0a:c0:02:05", ips: ["10.192.2.5"] }],
        },
        {
          vtep: "198.51.100.3",
          members: [{ mac: "02:42:0a:c0:03:06", ips: ["10.192.3.6"] }],
        },
      ],
    });
  });

  test("lazy: nothing without a container here, nothing of a network that ended", () => {
    const of = (tables: Tables): unknown =>
      desired(tables, nodeId(1), app.id, plainPaths(tables, nodeId(1)));
    expect(of(tablesWith({ 2: [endpoint(2, 5)] }))).toBeUndefined();
    expect(of(tablesWith({ 1: [endpoint(1, 5)] }, { networks: [] }))).toBeUndefined();
  });

  test("an encrypted network takes the paths of its class, and no others", () => {
    const secret = { ...app, encryption: "wireguard" as const };
    const tables = tablesWith(
      { 1: [endpoint(1, 5)], 2: [endpoint(2, 5)], 3: [endpoint(3, 6)] },
      { networks: [secret] },
    );
    const inside = Ip.parse("198.19.0.2");
    const local = Ip.parse("198.19.0.1");
    const of = (paths: Paths | undefined) => desired(tables, nodeId(1), app.id, paths);
    expect(of(plainPaths(tables, nodeId(1)))).toBeUndefined();
    expect(of(undefined)).toBeUndefined();
    const remote = new Map([[nodeId(2), inside]]);
    expect(of({ encryption: "wireguard", local, remote })).toMatchObject({
      udpPort: 7949,
      localVtep: local,
      // Host 3 has no path.
      remotes: [{ vtep: inside, members: [{ mac: endpoint(2, 5).mac }] }],
    });
    expect(of({ encryption: "ipsec", local, remote })).toBeUndefined();
  });

  test.each<[string, Endpoint, string]>([
    ["an address of another host's block", endpoint(3, 9), "not-in-block"],
    ["a victim's MAC", { ...endpoint(2, 5), mac: endpoint(1, 5).mac }, "mac-taken"],
    ["the gateway's MAC", { ...endpoint(2, 5), mac: ruleMac(gateway) }, "mac-taken"],
    ["the gateway", { ...endpoint(2, 5), ipv4: gateway }, "gateway"],
    ["no address", { id: endpoint(2, 5).id, mac: freeMac }, "no-address"],
  ])("a member that claims %s is ignored", (_, claim, reason) => {
    const tables = tablesWith({ 1: [endpoint(1, 5)], 2: [claim] });
    expect(reasons(tables)).toEqual([reason]);
    expect(desired(tables, nodeId(1), app.id, plainPaths(tables, nodeId(1)))?.remotes).toEqual([]);
  });

  test("a MAC that another address would derive counts, until somebody has that address", () => {
    const kept = { ...endpoint(2, 5), mac: endpoint(3, 5).mac };
    expect(reasons(tablesWith({ 1: [endpoint(1, 5)], 2: [kept] }))).toEqual([]);
    const tables = tablesWith({ 1: [endpoint(1, 5)], 2: [kept], 3: [endpoint(3, 5)] });
    expect(readNetwork(tables, app).ignored).toEqual([
      { node: nodeId(2), endpoint: kept.id, reason: "mac-taken" },
    ]);
    // Nobody but the address's holder says it by either of its two MACs.
    const [, spare] = derivedMacs(endpoint(3, 5).ipv4!);
    const both = { 2: [{ ...kept, mac: spare }], 3: [{ ...endpoint(3, 5), mac: spare }] };
    expect(readNetwork(tablesWith(both), app).ignored).toMatchObject([{ node: nodeId(2) }]);
  });

  test("of two that claim one free MAC the same one wins everywhere", () => {
    const tables = tablesWith({
      2: [{ ...endpoint(2, 5), mac: freeMac }],
      3: [{ ...endpoint(3, 5), mac: freeMac }],
    });
    expect(readNetwork(tables, app).ignored).toEqual([
      { node: nodeId(3), endpoint: endpoint(3, 5).id, reason: "mac-taken" },
    ]);
  });

  test("of two endpoints of a host that claim one address the same one wins everywhere", () => {
    const macs = ["52:54:00:00:00:01", "52:54:00:00:00:02"].map((mac) => Mac.parse(mac));
    const [first, second] = macs.map((mac, i) => ({
      ...endpoint(2, 5 + i),
      ipv4: endpoint(2, 5).ipv4!,
      mac,
    }));
    const tables = tablesWith({ 1: [endpoint(1, 5)], 2: [first!, second!] });
    expect(readNetwork(tables, app).ignored).toEqual([
      { node: nodeId(2), endpoint: second!.id, reason: "address-taken" },
    ]);
    const remotes = desired(tables, nodeId(1), app.id, plainPaths(tables, nodeId(1)))?.remotes;
    expect(remotes?.flatMap(({ members }) => members.map(({ mac }) => mac))).toEqual([first!.mac]);
  });

  test("a revoked host, and one the network does not allow, are not there", () => {
    const documents = { 1: [endpoint(1, 5)], 2: [endpoint(2, 5)] };
    expect(reasons(tablesWith(documents, { revoked: [nodeId(2)] }))).toEqual(["not-admitted"]);
    const closed = { ...app, hosts: [nodeId(1)] };
    expect(
      readNetwork(tablesWith(documents, { networks: [closed] }), closed).ignored[0]?.reason,
    ).toBe("not-allowed");
  });

  test("a host that its token keeps to other networks is not there", () => {
    const nodes = [node(1), { ...node(2), allowedNetworks: ["web"] }];
    const documents = { 2: [endpoint(2, 5)] };
    expect(reasons(tablesWith(documents, { nodes }))).toEqual(["not-allowed"]);
    const allowed = nodes.with(1, { ...node(2), allowedNetworks: [app.name!] });
    expect(reasons(tablesWith(documents, { nodes: allowed }))).toEqual([]);
  });

  test("a granted address inside another's block is its holder's: the most specific block decides", () => {
    const blocks = [
      ...clusterState(3).blocks,
      { network: app.id, block: Cidr.parse("10.192.3.9/32"), node: nodeId(2) },
    ];
    const documents = { 1: [endpoint(1, 5)], 2: [endpoint(3, 9)] };
    expect(reasons(tablesWith(documents, { blocks }))).toEqual([]);
    expect(reasons(tablesWith({ 3: [endpoint(3, 9)] }, { blocks }))).toEqual(["not-in-block"]);
  });

  test("IPv6: both addresses, and the link-local one that follows from the MAC, never another", () => {
    const dual: NetworkRecord = {
      ...app,
      subnets: [
        ...app.subnets,
        {
          subnet: Cidr.parse("fd00:192::/64"),
          gateway: Ip.parse("fd00:192::1"),
          dynamicRanges: [Cidr.parse("fd00:192::/65")],
        },
      ],
    };
    const blocks = [
      ...clusterState(3).blocks,
      { network: app.id, block: Cidr.parse("fd00:192::2:0/112"), node: nodeId(2) },
    ];
    const state = { networks: [dual], blocks };
    const tables = tablesWith({ 1: [endpoint(1, 5)], 2: [withIpv6(endpoint(2, 5))] }, state);
    const { gateways, remotes } = desired(
      tables,
      nodeId(1),
      app.id,
      plainPaths(tables, nodeId(1)),
    )!;
    expect(gateways.map(({ ip }) => ip)).toEqual(["10.192.0.1", "fd00:192::1"]);
    expect(remotes[0]?.members[0]?.ips).toEqual([
      "10.192.2.5",
      "fd00:192::2:5",
      "fe80::42:aff:fec0:205",
    ]);
    const stolen = { ...endpoint(3, 6), ipv6: withIpv6(endpoint(2, 9)).ipv6! };
    expect(reasons(tablesWith({ 3: [stolen] }, state))).toEqual(["not-in-block"]);
    expect(reasons(tablesWith({ 3: [{ ...stolen, ipv6: Ip.parse("fe80::1") }] }, state))).toEqual([
      "not-in-block",
    ]);
  });

  test("multicast: copies to the other hosts on the network, and only where it is wanted", () => {
    const flood = (record: NetworkRecord): readonly string[] | undefined => {
      const tables = tablesWith({ 1: [endpoint(1, 5)] }, { networks: [record] });
      for (const [k, hosting] of [
        [1, [app.id]],
        [2, [app.id]],
        [3, []],
      ] as const)
        tables.mergeHost(hostDocument(k, { hosting: [...hosting] }));
      return desired(tables, nodeId(1), app.id, plainPaths(tables, nodeId(1)))?.flood;
    };
    expect(flood({ ...app, multicast: true })).toEqual(["198.51.100.2"]);
    expect(flood({ ...app, multicast: true, hosts: [nodeId(1)] })).toEqual([]);
    expect(flood(app)).toEqual([]);
  });

  test("nothing in clear or under ESP reaches through NAT; WireGuard does", () => {
    const [first, second, third] = clusterState(3).nodes;
    const behindNat = Ip.parse("192.168.1.7");
    const nodes = [first!, { ...second!, behindNat }, third!];
    const tables = tablesWith({ 1: [endpoint(1, 5)], 2: [endpoint(2, 5)] }, { nodes });
    expect([...plainPaths(tables, nodeId(1))!.remote.keys()]).toEqual([nodeId(3)]);
    expect(plainPaths(tables, nodeId(2))).toBeUndefined();
    expect(desiredGuards(tables, nodeId(1), ["none", "ipsec"])?.vteps).toEqual(["198.51.100.3"]);
    expect(desiredGuards(tables, nodeId(1), ["wireguard"])?.vteps).toEqual([
      "198.51.100.2",
      "198.51.100.3",
    ]);
    expect(desiredProof(tables.state!, nodeId(1))?.peers.map(({ node }) => node)).toEqual([
      nodeId(3),
    ]);
    expect(desiredProof(tables.state!, nodeId(2))).toBeUndefined();
  });

  test.each<[string, Partial<NetworkRecord>, string[]]>([
    ["in clear, with a way out", {}, []],
    ["internal", { internal: true }, ["10.192.0.0/16"]],
    ["of WireGuard", { encryption: "wireguard" }, ["10.192.0.0/16"]],
    ["of IPsec", { encryption: "ipsec" }, ["10.192.0.0/16"]],
  ])(
    "guards: nothing goes around a network that is %s, where the host is on it",
    (_, kind, sealed) => {
      const networks = [{ ...app, ...kind }];
      const on = tablesWith({ 1: [endpoint(1, 5)] }, { networks });
      expect(desiredGuards(on, nodeId(1), ["none"])?.sealed).toEqual(sealed);
      expect(desiredGuards(on, nodeId(2), ["none"])?.sealed).toEqual([]);
      const joining = tablesWith({}, { networks });
      joining.mergeHost(hostDocument(2, { hosting: [app.id] }));
      expect(desiredGuards(joining, nodeId(2), ["none"])?.sealed).toEqual(sealed);
    },
  );

  test("guards: a subnet within another is not told of twice", () => {
    const [wide, within, apart] = ["10.5.0.0/16", "10.5.3.0/24", "10.6.0.0/16"].map((text) =>
      Cidr.parse(text),
    );
    expect(outermost([apart!, within!, wide!, wide!])).toEqual([wide, apart]);
  });

  test("guards: who hosts and who speaks, never ourselves", () => {
    // The rules let in who speaks without looking who hosts: host 3 was not heard to say that it is on the network.
    const tables = tablesWith({ 1: [endpoint(1, 5)], 2: [endpoint(2, 5)], 3: [endpoint(3, 5)] });
    tables.mergeHost(hostDocument(2, { hosting: [app.id] }));
    expect(desiredGuards(tables, nodeId(1), ["none"])).toEqual({
      underlayFamily: 4,
      classPorts: { plain: 7948, wireguard: 7949, ipsec: 7950 },
      meshPorts: [7947, 7952],
      ipsec: false,
      exposed: [],
      sealed: [],
      vteps: ["198.51.100.2", "198.51.100.3"],
      hosting: [{ vtep: "198.51.100.2", vni: 256 }],
      speakers: [
        {
          vtep: "198.51.100.2",
          vni: 256,
          members: [{ mac: "02:42:0a:c0:02:05", ips: ["10.192.2.5"] }],
        },
      ],
    });
  });

  test("guards: what this host's own processes send by its address in a network", () => {
    const tables = tablesWith({ 1: [endpoint(1, 5), { ...endpoint(1, 6), role: "host" }] });
    expect(desiredGuards(tables, nodeId(1), ["none"])?.exposed).toEqual([
      {
        vtep: "198.51.100.1",
        vni: 256,
        members: [{ mac: "02:42:0a:c0:01:06", ips: ["10.192.1.6"] }],
      },
    ]);
  });
});
