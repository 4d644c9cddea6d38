import { describe, expect, test } from "vitest";
import { desiredGuards } from "../../../agent/core/data-plane/desired-guards.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import {
  planPeers,
  readWireguard,
  transportGuards,
  WireguardKey,
  wireguardPaths,
  type WireguardPeerState,
} from "../../../agent/core/keys/wireguard.ts";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import { DEFAULT_SETTINGS } from "../../../shared/cluster-state.ts";
import type { HostDocument } from "../../../shared/documents.ts";
import { hostCidr, Ip } from "../../../shared/ip.ts";
import {
  app,
  clusterState,
  hostDocument as clusterHost,
  node,
  nodeId,
  vtepOf,
} from "../../support/cluster.ts";

const keyOf = (n: number): WireguardKey =>
  WireguardKey.parse(Buffer.alloc(32, n).toString("base64"));
const insideOf = (k: number): Ip => Ip.parse(`198.19.0.${k}`);

function hostDocument(k: number, changes: Partial<HostDocument> = {}): HostDocument {
  return clusterHost(k, { wireguardKey: keyOf(k), ...changes });
}

function tablesWith(documents: readonly HostDocument[], state: Partial<ClusterState> = {}): Tables {
  const tables = new Tables();
  tables.mergeState(clusterState(3, state));
  for (const document of documents) tables.mergeHost(document);
  return tables;
}

const read = (tables: Tables) => readWireguard(tables, nodeId(1))!;
const all = [1, 2, 3].map((k) => hostDocument(k));

describe("who is a peer", () => {
  test("every admitted host with a key, from its own inside address only", () => {
    expect(read(tablesWith(all)).desired).toEqual({
      listenPort: 7951,
      ownInside: "198.19.0.1",
      prefixLength: 16,
      mtuBytes: 1440,
      peers: [2, 3].map((k) => ({
        publicKey: keyOf(k),
        endpoint: { ip: vtepOf(k), port: 7951 },
        inside: insideOf(k),
        keepaliveSeconds: 0,
      })),
      undecided: [],
    });
  });

  test("a host that is not in the state has no tunnel", () => {
    expect(readWireguard(tablesWith(all), nodeId(7))).toBeUndefined();
    expect(readWireguard(new Tables(), nodeId(1))).toBeUndefined();
  });

  test("over IPv6 the device is smaller", () => {
    const settings = { ...DEFAULT_SETTINGS, underlayFamily: 6 as const };
    expect(read(tablesWith(all, { settings })).desired.mtuBytes).toBe(1420);
  });

  test("a network that was made when the underlay was larger keeps its path, in pieces", () => {
    const nodes = [1, 2, 3].map((k) => ({ ...node(k), underlayMtuBytes: 1400 }));
    const made = [{ ...app, encryption: "wireguard" as const, mtuBytes: 1390 }];
    const desired = (networks: (typeof app)[]) =>
      read(tablesWith(all, { nodes, networks })).desired.mtuBytes;
    expect([desired([]), desired([app]), desired(made)]).toEqual([1340, 1340, 1440]);
  });

  test("a revoked host is none, whatever its document says", () => {
    const { desired, without } = read(tablesWith(all, { revoked: [nodeId(2)] }));
    expect(desired.peers.map(({ inside }) => inside)).toEqual([insideOf(3)]);
    expect(desired.undecided).toEqual([]);
    expect(without).toEqual([]);
  });

  test.each([
    ["unheard", []],
    ["no-key", [hostDocument(2, { wireguardKey: undefined })]],
    ["bad-key", [hostDocument(2, { wireguardKey: "AAAA" })]],
    ["key-taken", [hostDocument(2, { wireguardKey: keyOf(1) })]],
  ] as const)("without a path, and why: %s", (reason, second) => {
    const { desired, without } = read(tablesWith([hostDocument(1), hostDocument(3), ...second]));
    expect(without).toEqual([{ node: nodeId(2), reason }]);
    expect(desired.peers.map(({ inside }) => inside)).toEqual([insideOf(3)]);
    expect(desired.undecided).toEqual(reason === "unheard" ? [insideOf(2)] : []);
  });

  test("a newer member cannot take an older one's key by claiming it", () => {
    const tables = tablesWith([hostDocument(2), hostDocument(3, { wireguardKey: keyOf(2) })]);
    expect(read(tables).desired.peers.map(({ inside }) => inside)).toEqual([insideOf(2)]);
    expect(read(tables).without).toEqual([{ node: nodeId(3), reason: "key-taken" }]);
  });

  test("a host behind NAT keeps its way in open", () => {
    const tables = tablesWith([hostDocument(1), hostDocument(2)]);
    const [own, ...others] = tables.state!.nodes;
    const nodes = [{ ...own!, behindNat: Ip.parse("192.168.1.7") }, ...others];
    tables.mergeState({ ...tables.state!, revision: tables.state!.revision + 1, nodes });
    expect(read(tables).desired.peers[0]?.keepaliveSeconds).toBe(25);
  });
});

const state = (k: number, changes: Partial<WireguardPeerState> = {}): WireguardPeerState => ({
  publicKey: keyOf(k),
  endpoint: { ip: vtepOf(k), port: 7951 },
  allowed: [hostCidr(insideOf(k))],
  keepaliveSeconds: 0,
  lastHandshakeMs: undefined,
  rxBytes: 0,
  txBytes: 0,
  ...changes,
});

describe("no key, no path", () => {
  test("only hosts whose key and address the device holds have one", () => {
    const reading = read(tablesWith(all));
    const paths = (held: WireguardPeerState[]): unknown => [...wireguardPaths(reading, held)];
    expect(paths([state(2), state(3)])).toEqual([
      [nodeId(2), insideOf(2)],
      [nodeId(3), insideOf(3)],
    ]);
    expect(paths([])).toEqual([]);
    expect(paths([state(2, { publicKey: keyOf(9) })])).toEqual([]);
    expect(paths([state(2, { allowed: [hostCidr(insideOf(9))] })])).toEqual([]);
  });
});

test("in the transport namespace the guards know hosts by their inside addresses", () => {
  const tables = tablesWith([hostDocument(1), hostDocument(2, { hosting: [app.id] })]);
  expect(transportGuards(desiredGuards(tables, nodeId(1), ["none"])!, read(tables))).toMatchObject({
    underlayFamily: 4,
    classPorts: { plain: 7949, wireguard: 7948, ipsec: 7950 },
    // Host 3 has said no key.
    vteps: [insideOf(2)],
    hosting: [{ vtep: insideOf(2), vni: app.vni }],
    speakers: [],
  });
});

describe("the difference", () => {
  const { desired } = read(tablesWith(all));
  const NOW = 10_000_000;
  const learnt = { ip: Ip.parse("203.0.113.9"), port: 40_000 };
  const plan = (
    held: WireguardPeerState[],
    changes: Partial<typeof desired> = {},
    asked: ReadonlyMap<WireguardKey, typeof learnt> = new Map(),
  ) => planPeers(held, { ...desired, ...changes }, asked, NOW);

  test("nothing when they agree, everything when there is nothing", () => {
    expect(plan([state(3), state(2)])).toEqual([]);
    expect(plan([])).toEqual(desired.peers.map((peer) => ({ kind: "add", ...peer })));
  });

  test("a new key takes the old one's place, which goes first; nobody else is named", () => {
    const renewed = { ...desired.peers[0]!, publicKey: keyOf(22) };
    expect(plan([state(2), state(3)], { peers: [renewed, desired.peers[1]!] })).toEqual([
      { kind: "remove", publicKey: keyOf(2) },
      // Kept alive for a moment: the session begins here, where both keys are known.
      { kind: "add", ...renewed, keepaliveSeconds: 25 },
      { kind: "update", publicKey: renewed.publicKey, keepaliveSeconds: 0 },
    ]);
  });

  test("what somebody changed by hand is put right", () => {
    const wider = state(2, { allowed: [hostCidr(insideOf(2)), hostCidr(insideOf(3))] });
    const kept = state(3, { keepaliveSeconds: 5 });
    expect(plan([wider, kept])).toEqual([
      { kind: "update", publicKey: keyOf(2), inside: insideOf(2) },
      { kind: "update", publicKey: keyOf(3), keepaliveSeconds: 0 },
    ]);
  });

  test("a host not heard of yet keeps what stands for it, and for it alone", () => {
    const undecided = [insideOf(3)];
    const peers = [desired.peers[0]!];
    expect(plan([state(2), state(3)], { peers, undecided })).toEqual([]);
    const others = state(9, { allowed: [hostCidr(insideOf(3)), hostCidr(insideOf(4))] });
    expect(plan([state(2), others, state(8, { allowed: [] })], { peers, undecided })).toEqual([
      { kind: "remove", publicKey: keyOf(9) },
      { kind: "remove", publicKey: keyOf(8) },
    ]);
  });

  const asWritten = new Map([[keyOf(2), { ip: vtepOf(2), port: 7951 }]]);
  const elsewhere = new Map([[keyOf(2), { ip: vtepOf(9), port: 7951 }]]);
  test.each([
    ["learnt, its session lives", learnt, NOW - 100_000, asWritten, false],
    ["learnt, after a restart its session lives", learnt, NOW - 100_000, new Map(), false],
    ["the host moved, its session lives", learnt, NOW - 100_000, elsewhere, true],
    ["learnt, its session is dead", learnt, NOW - 300_000, asWritten, true],
    [
      "learnt, its handshake is in the future: the clock was ahead",
      learnt,
      NOW + 1000,
      asWritten,
      true,
    ],
    ["never heard", learnt, undefined, new Map(), true],
    ["none at all", undefined, undefined, asWritten, true],
  ] as const)("an endpoint: %s", (_, endpoint, lastHandshakeMs, asked, written) => {
    const changes = plan([state(2, { endpoint, lastHandshakeMs }), state(3)], {}, asked);
    const expected = {
      kind: "update",
      publicKey: keyOf(2),
      endpoint: { ip: vtepOf(2), port: 7951 },
    };
    expect(changes).toEqual(written ? [expected] : []);
  });
});
