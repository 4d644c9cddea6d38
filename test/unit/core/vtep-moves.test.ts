import { describe, expect, test } from "vitest";
import { desiredGuards } from "../../../agent/core/data-plane/desired-guards.ts";
import { desired, plainPaths } from "../../../agent/core/data-plane/desired-network.ts";
import { HeldNetwork } from "../../../agent/core/data-plane/held-network.ts";
import { plan } from "../../../agent/core/data-plane/plan.ts";
import {
  FORMER_VTEP_MS,
  OWN_VTEP_STAYS_MS,
  VtepMoves,
} from "../../../agent/core/data-plane/vtep-moves.ts";
import { desiredProof } from "../../../agent/core/liveness/proofs.ts";
import { changeOwn } from "../../../agent/core/tables/own-documents.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import type { ClusterState, NetworkRecord, NodeRecord } from "../../../shared/cluster-state.ts";
import type { Endpoint } from "../../../shared/documents.ts";
import type { Ip } from "../../../shared/ip.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { FakeKernel } from "../../fakes/fake-kernel.ts";
import {
  app,
  clusterState,
  endpoint,
  hashSigner,
  hostDocument,
  node,
  nodeId,
  present,
  vtepOf,
} from "../../support/cluster.ts";

const HOSTS = [1, 2, 3];
/** The second host's, one after another. */
const [A, B, C] = [vtepOf(2), vtepOf(52), vtepOf(62)];
const copied: NetworkRecord = { ...app, multicast: true };

const endpointOn = (k: number): Endpoint => ({ ...endpoint(k, 5), role: "host" });

/** The second host is at `vtep`, or as `changes` say. */
function state(revision: number, vtep: Ip, changes: Partial<NodeRecord> = {}): ClusterState {
  const moved = { ...node(2), address: vtep, vtep, ...changes };
  return clusterState(3, { revision, networks: [copied], nodes: [node(1), moved, node(3)] });
}

/** What one host knows, and what of it guards and paths are made of. */
class Host {
  readonly tables = new Tables();
  readonly #k: number;
  readonly #moves = new VtepMoves();

  constructor(k: number) {
    this.#k = k;
    this.tables.mergeState(state(1, A));
    for (const j of HOSTS) {
      this.tables.mergeHost(hostDocument(j, { hosting: [app.id] }));
      const own = { node: nodeId(j), hasher: sha256, signer: hashSigner(nodeId(j)) };
      this.tables.mergeNetwork(changeOwn(own, app.id, undefined, [endpointOn(j)], []).document);
    }
    this.#moves.heard(this.tables.state, 0);
  }

  hear(newer: ClusterState, nowMs: number): void {
    this.tables.mergeState(newer);
    this.#moves.heard(this.tables.state, nowMs);
  }

  guards(nowMs: number) {
    const former = this.#moves.former(nowMs);
    return desiredGuards(this.tables, nodeId(this.#k), ["none"], former)!;
  }

  sendsFrom(nowMs: number): Ip | undefined {
    return this.#moves.sendsFrom(nodeId(this.#k), nowMs);
  }

  network(nowMs: number) {
    const paths = plainPaths(this.tables, nodeId(this.#k), this.sendsFrom(nowMs));
    return desired(this.tables, nodeId(this.#k), app.id, paths)!;
  }

  /** A packet of host `from`'s container from `vtep` is let in here. */
  letsIn(from: number, vtep: Ip, nowMs: number): boolean {
    const { vteps, hosting, speakers } = this.guards(nowMs);
    const { mac } = endpointOn(from);
    return (
      vteps.includes(vtep) &&
      hosting.some((entry) => entry.vtep === vtep) &&
      speakers.some((group) => group.vtep === vtep && group.members.some((one) => one.mac === mac))
    );
  }

  letsOut(vtep: Ip, nowMs: number): boolean {
    return this.guards(nowMs).exposed.some((entry) => entry.vtep === vtep);
  }
}

describe("a host that has two addresses changes over", () => {
  /** By host, when it hears of it, in every order, as far apart as gossip and its repair can be. */
  const orders = [
    [0, 0, 0],
    [0, 4000, 4000],
    [4000, 0, 4999],
    [4000, 4999, 0],
    [0, 4999, 2000],
  ];
  test.each(orders)(
    "heard after %i, %i and %i ms: at no time is a packet refused",
    (...afterMs) => {
      const hosts = new Map(HOSTS.map((k) => [k, new Host(k)]));
      const heardMs = afterMs.map((ms) => 1000 + ms);
      const endMs = 1000 + OWN_VTEP_STAYS_MS * 3;
      const refused: string[] = [];
      for (let nowMs = 0; nowMs <= endMs; nowMs += 100) {
        for (const k of HOSTS) {
          const due = heardMs[k - 1]!;
          if (nowMs >= due && nowMs - 100 < due) hosts.get(k)!.hear(state(2, B), nowMs);
        }
        for (const [k, host] of hosts) {
          const { localVtep, remotes } = host.network(nowMs);
          if (!host.letsOut(localVtep, nowMs)) refused.push(`${nowMs}: ${k} by itself`);
          for (const [j, other] of hosts)
            if (j !== k && !other.letsIn(k, localVtep, nowMs))
              refused.push(`${nowMs}: ${j} that of ${k} from ${localVtep}`);
          // Of h2's both are on its interfaces.
          if (k !== 2)
            expect([A, B]).toContain(remotes.find(({ vtep }) => vtep !== vtepOf(4 - k))?.vtep);
        }
      }
      expect(refused).toEqual([]);
      expect(hosts.get(2)!.network(endMs).localVtep).toBe(B);
    },
  );

  test("it sends from the former address for its time, its proofs too, and is heeded there longer", () => {
    const [one, two] = [new Host(1), new Host(2)];
    for (const host of [one, two]) host.hear(state(2, B), 1000);
    const leaves = 1000 + OWN_VTEP_STAYS_MS;
    expect([two.sendsFrom(leaves - 1), two.sendsFrom(leaves)]).toEqual([A, undefined]);
    const proof = (nowMs: number) =>
      desiredProof(two.tables.state!, nodeId(2), two.sendsFrom(nowMs))?.localVtep;
    expect([proof(leaves - 1), proof(leaves)]).toEqual([A, B]);
    const ends = 1000 + FORMER_VTEP_MS;
    expect(one.guards(ends - 1).vteps).toEqual([B, A, vtepOf(3)]);
    expect(one.guards(ends).vteps).toEqual([B, vtepOf(3)]);
    expect(one.letsIn(2, A, ends)).toBe(false);
  });

  test("twice within its time: it is heeded at all three, and sends from the one before the last", () => {
    const [one, two] = [new Host(1), new Host(2)];
    for (const host of [one, two]) {
      host.hear(state(2, B), 1000);
      host.hear(state(3, C), 2000);
    }
    expect([A, B, C].map((vtep) => one.letsIn(2, vtep, 3000))).toEqual([true, true, true]);
    expect(two.sendsFrom(3000)).toBe(B);
  });

  test("there and back: the address that it has again is its own, and the other the former one", () => {
    const [one, two] = [new Host(1), new Host(2)];
    for (const host of [one, two]) {
      host.hear(state(2, B), 1000);
      host.hear(state(3, A), 2000);
    }
    expect(one.guards(3000).vteps).toEqual([A, B, vtepOf(3)]);
    expect(two.sendsFrom(3000)).toBe(B);
  });
});

describe("of a former VTEP nothing is left", () => {
  test.each([
    ["of a host that was removed", state(3, B).nodes.filter(({ id }) => id !== nodeId(2))],
    ["that is another host's", [...state(3, B).nodes, { ...node(4), vtep: A }]],
  ])("%s", (_, nodes) => {
    const one = new Host(1);
    one.hear(state(2, B), 1000);
    expect(one.letsIn(2, A, 1000)).toBe(true);
    one.hear(clusterState(3, { revision: 3, networks: [copied], nodes }), 2000);
    expect(one.letsIn(2, A, 2000)).toBe(false);
  });

  test("that was a NAT's: in clear nobody is let in from there", () => {
    const one = new Host(1);
    one.hear(state(2, A, { behindNat: C }), 1000);
    one.hear(state(3, B), FORMER_VTEP_MS + 1000);
    expect(one.guards(FORMER_VTEP_MS + 1000).vteps).toEqual([B, vtepOf(3)]);
  });
});

describe("the steps of it", () => {
  const steps = (kernel: FakeKernel, of: ReturnType<Host["network"]>) =>
    plan(new HeldNetwork(kernel.readNow(app.id)), present(of));

  test("a peer replaces entries in place, and a copy goes after the new one is there", async () => {
    const [one, kernel] = [new Host(1), new FakeKernel()];
    await kernel.apply(app.id, steps(kernel, one.network(0)));
    one.hear(state(2, B), 1000);
    const { mac } = endpointOn(2);
    expect(steps(kernel, one.network(1000))).toEqual([
      { kind: "putRemotes", remotes: [expect.objectContaining({ mac, vtep: B })] },
      { kind: "putFlood", vteps: [B] },
      { kind: "removeFlood", vteps: [A] },
    ]);
  });

  test("the host itself does nothing before its time, then mends its devices and takes nothing away", async () => {
    const [two, kernel] = [new Host(2), new FakeKernel()];
    await kernel.apply(app.id, steps(kernel, two.network(0)));
    two.hear(state(2, B), 1000);
    expect(steps(kernel, two.network(1000))).toEqual([]);
    const mended = steps(kernel, two.network(1000 + OWN_VTEP_STAYS_MS));
    expect(mended.map(({ kind }) => kind)).toEqual(["extend", "putRemotes", "putFlood", "putPort"]);
  });
});
