import { randomBytes } from "node:crypto";
import { afterEach, expect, test } from "vitest";
import type { DesiredGuards } from "../../../agent/core/data-plane/kernel-state.ts";
import type { FormerVteps } from "../../../agent/core/data-plane/vtep-moves.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { Secret } from "../../../agent/encryption/secret.ts";
import { WireguardClass } from "../../../agent/encryption/wireguard/class.ts";
import { newWireguardKey, wireguardPublicKey } from "../../../agent/encryption/wireguard/keys.ts";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import { Ip } from "../../../shared/ip.ts";
import { silentLog } from "../../../shared/ports.ts";
import { FakeUnderlay, FakeWireguard } from "../../fakes/fake-wireguard.ts";
import { app, clusterState, hostDocument, node, nodeId, vtepOf } from "../../support/cluster.ts";

const [A, B] = [vtepOf(2), vtepOf(52)];
const inside = Ip.parse("198.19.0.2");
const NOW = 10_000_000;
let running: WireguardClass | undefined;

afterEach(() => running?.stop());

function state(revision: number, vtep: Ip): ClusterState {
  const nodes = [node(1), { ...node(2), address: vtep, vtep }];
  return clusterState(2, { revision, nodes, networks: [{ ...app, encryption: "wireguard" }] });
}

/** The first host, with the second as its peer. */
async function first() {
  const tables = new Tables();
  tables.mergeState(state(1, A));
  const wireguardKey = wireguardPublicKey(newWireguardKey());
  tables.mergeHost(hostDocument(2, { wireguardKey, hosting: [app.id] }));
  const written: DesiredGuards[] = [];
  const underlay = new FakeUnderlay();
  let former: FormerVteps = new Map();
  const its = (running = new WireguardClass({
    self: nodeId(1),
    tables,
    stateIsFresh: () => true,
    handover: { former: () => former },
    tunnel: new FakeWireguard(underlay, vtepOf(1), () => NOW),
    makeGuards: () => ({
      set: async (desired) => void written.push(desired),
      verify: async () => true,
      counters: async () => ({}),
      work: () => ({ read: 0, written: 0, drifts: 0 }),
      onTamper: () => {},
      remove: async () => {},
      close: async () => {},
    }),
    privateKey: () => new Secret(randomBytes(32)),
    keepKey: () => {},
    keyChanged: () => {},
    pathsChanged: () => {},
    seenChanged: () => {},
    log: silentLog,
  }));
  its.dirty();
  await its.settled();
  const hear = async (): Promise<void> => {
    tables.mergeState(state(2, B));
    former = new Map([[nodeId(2), [A]]]);
    its.dirty();
    await its.settled();
  };
  const endpoint = (): Ip | undefined =>
    underlay.devices.get(vtepOf(1))?.peers.get(wireguardKey)?.endpoint?.ip;
  /** A packet of a session that lives came from there. */
  const learns = (ip: Ip): void => {
    const { peers } = underlay.devices.get(vtepOf(1))!;
    const peer = peers.get(wireguardKey)!;
    peers.set(wireguardKey, { ...peer, endpoint: { ip, port: 7951 }, lastHandshakeMs: NOW });
  };
  return { its, written, hear, endpoint, learns };
}

test("a peer at another address: its address inside is let in with every write of the guards", async () => {
  const { written, hear } = await first();
  const before = written.length;
  await hear();
  expect(written.length).toBeGreaterThan(before);
  for (const { vteps, hosting } of written) {
    expect(vteps).toEqual([inside]);
    expect(hosting).toEqual([{ vtep: inside, vni: app.vni }]);
  }
});

test("what it still sends from the former address is no reason to stay there; from elsewhere it may be heard", async () => {
  const { its, hear, endpoint, learns } = await first();
  learns(A);
  await hear();
  expect(endpoint()).toBe(B);
  learns(A);
  its.dirty();
  await its.settled();
  expect(endpoint()).toBe(B);
  const behindNat = Ip.parse("203.0.113.9");
  learns(behindNat);
  its.dirty();
  await its.settled();
  expect(endpoint()).toBe(behindNat);
});
