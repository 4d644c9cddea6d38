import { describe, expect, test } from "vitest";
import type { ClusterOutput } from "../../../agent/core/tables/cluster-output.ts";
import { ClusterReplica, type HostFacts } from "../../../agent/core/tables/cluster-replica.ts";
import { ClusterSyncRequest } from "../../../agent/core/tables/cluster-messages.ts";
import { decodeMessage } from "../../../agent/core/tables/messages.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { BOUNDS } from "../../../shared/bounds.ts";
import type { ClusterState, SignedState } from "../../../shared/cluster-state.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { hostSigningBytes } from "../../../shared/documents.ts";
import {
  app,
  clusterState,
  hashSigner,
  hashVerifier,
  node,
  nodeId,
} from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";

/** Hosts whose outputs reach each other at once; the signed state is its own proof here. */
class Hosts {
  readonly replicas = new Map<string, { replica: ClusterReplica; tables: Tables }>();
  readonly persisted: string[] = [];
  dropGossip = false;

  add(k: number, state: ClusterState): void {
    const tables = new Tables();
    const others = (): ReturnType<typeof nodeId>[] =>
      [...this.replicas.keys()].filter((id) => id !== nodeId(k)) as ReturnType<typeof nodeId>[];
    const replica = new ClusterReplica(
      tables,
      { node: nodeId(k), syncPeriodMs: 1500, requestTimeoutMs: 1000 },
      {
        hasher: sha256,
        signer: hashSigner(nodeId(k)),
        verifier: hashVerifier,
        random: seededRandom(k),
        peers: others,
      },
    );
    replica.restore([], signed(state), state);
    this.replicas.set(nodeId(k), { replica, tables });
  }

  at(k: number): { replica: ClusterReplica; tables: Tables } {
    const held = this.replicas.get(nodeId(k));
    if (held === undefined) throw new Error(`no host ${k}`);
    return held;
  }

  run(k: number, outputs: readonly ClusterOutput[]): void {
    const { replica } = this.at(k);
    for (const output of outputs) {
      this.persisted.push(`${k} ${output.kind}`);
      if (output.kind === "publish" && !this.dropGossip)
        for (const [id] of this.replicas)
          if (id !== nodeId(k)) {
            const j = [...this.replicas.keys()].indexOf(id) + 1;
            this.run(j, this.at(j).replica.gossip(nodeId(k), output.bytes, 0));
          }
      if (output.kind === "verifyState")
        this.run(k, replica.stateVerified(output.signed, unsigned(output.signed), 0));
      if (output.kind === "request") {
        const to = this.replicas.get(output.to);
        const request = decodeMessage(ClusterSyncRequest, output.bytes, BOUNDS.syncMessageBytes);
        const answer = to?.replica.answer(nodeId(k), request);
        if (answer !== undefined) this.run(k, replica.answered(output.id, encodeCbor(answer), 0));
      }
    }
  }
}

const signed = (state: ClusterState): SignedState => ({
  jws: JSON.stringify(state),
  controllerCertificate: "",
});
const unsigned = ({ jws }: SignedState): ClusterState => JSON.parse(jws) as ClusterState;

function facts(k: number, hosting: HostFacts["hosting"] = []): HostFacts {
  const { vtep } = node(k);
  return {
    bootId: `boot-${k}`,
    vtep: { advertised: vtep, local: vtep },
    underlayMtuBytes: 1500,
    capabilities: [],
    hosting,
  };
}

describe("the cluster topic", () => {
  test("what a host says of itself is known everywhere, and said once", () => {
    const hosts = new Hosts();
    for (const k of [1, 2, 3]) hosts.add(k, clusterState(3));
    hosts.run(1, hosts.at(1).replica.say(facts(1, [app.id]), 0));
    expect(hosts.at(3).tables.hosts.get(nodeId(1))?.hosting).toEqual([app.id]);
    expect(hosts.at(1).replica.say(facts(1, [app.id]), 0)).toEqual([]);
  });

  test("a newer state spreads, an older one is refused", () => {
    const hosts = new Hosts();
    for (const k of [1, 2, 3]) hosts.add(k, clusterState(3));
    const next = clusterState(3, { revision: 5 });
    hosts.run(1, hosts.at(1).replica.stateVerified(signed(next), next, 0));
    expect(hosts.at(3).tables.state?.revision).toBe(5);
    const old = clusterState(3, { revision: 4 });
    expect(hosts.at(2).replica.stateVerified(signed(old), old, 0)).toEqual([]);
  });

  test("a state too large for gossip is announced and fetched", () => {
    const hosts = new Hosts();
    for (const k of [1, 2]) hosts.add(k, clusterState(2));
    const networks = Array.from({ length: 100 }, (_, i) => ({
      ...app,
      name: `n${i}`,
      labels: { note: "x".repeat(1000) },
    }));
    const large = clusterState(2, { revision: 2, networks });
    hosts.run(1, hosts.at(1).replica.stateVerified(signed(large), large, 0));
    expect(hosts.at(2).tables.state?.networks).toHaveLength(100);
  });

  test("what gossip lost is repaired by a comparison, in one round", () => {
    const hosts = new Hosts();
    for (const k of [1, 2]) hosts.add(k, clusterState(2));
    hosts.dropGossip = true;
    hosts.run(1, hosts.at(1).replica.say(facts(1, [app.id]), 0));
    const next = clusterState(2, { revision: 9 });
    hosts.run(1, hosts.at(1).replica.stateVerified(signed(next), next, 0));
    expect(hosts.at(2).tables.hosts.size).toBe(0);
    hosts.run(2, hosts.at(2).replica.connected(nodeId(1), 0));
    expect(hosts.at(2).tables.state?.revision).toBe(9);
    expect(hosts.at(2).tables.hosts.get(nodeId(1))?.hosting).toEqual([app.id]);
  });

  test("strangers and forgeries are not kept", () => {
    const hosts = new Hosts();
    hosts.add(1, clusterState(2));
    const { replica, tables } = hosts.at(1);
    const forged = { ...facts(2), node: nodeId(2), version: { incarnation: 1, seq: 1 } };
    const document = { ...forged, signature: new Uint8Array(64) };
    replica.gossip(nodeId(2), encodeCbor({ v: 1, kind: "host", document }), 0);
    const unsignedStranger = { ...forged, node: nodeId(7) };
    const stranger = {
      ...unsignedStranger,
      signature: hashSigner(nodeId(7)).sign(hostSigningBytes(unsignedStranger)),
    };
    replica.gossip(nodeId(2), encodeCbor({ v: 1, kind: "host", document: stranger }), 0);
    replica.gossip(nodeId(2), Uint8Array.of(1, 2, 3), 0);
    expect(tables.hosts.size).toBe(0);
    expect(replica.counters).toMatchObject({ badSignature: 1, notMembers: 1, malformed: 1 });
  });

  test("an old disk meets what it said before and says the truth after it", () => {
    const hosts = new Hosts();
    for (const k of [1, 2]) hosts.add(k, clusterState(2));
    for (const hosting of [[app.id], [], [app.id]])
      hosts.run(1, hosts.at(1).replica.say(facts(1, hosting), 0));
    hosts.add(1, clusterState(2));
    hosts.run(1, hosts.at(1).replica.say(facts(1), 0));
    expect(hosts.at(2).tables.hosts.get(nodeId(1))?.hosting).toEqual([app.id]);
    hosts.run(1, hosts.at(1).replica.connected(nodeId(2), 0));
    expect(hosts.at(2).tables.hosts.get(nodeId(1))).toMatchObject({
      hosting: [],
      version: { incarnation: 2 },
    });
  });

  test("of two words of one version, as a clone has them said, all end with the same", () => {
    const hosts = new Hosts();
    for (const k of [1, 2, 3]) hosts.add(k, clusterState(3));
    hosts.dropGossip = true;
    for (const [k, hosting] of [
      [1, []],
      [2, [app.id]],
    ] as const) {
      const clone = new Hosts();
      clone.add(3, clusterState(3));
      const [word] = clone.at(3).replica.say(facts(3, [...hosting]), 0);
      const { document } = word as Extract<ClusterOutput, { kind: "persistHost" }>;
      const said = encodeCbor({ v: 1, kind: "host", document });
      hosts.run(k, hosts.at(k).replica.gossip(nodeId(3), said, 0));
    }
    hosts.run(1, hosts.at(1).replica.connected(nodeId(2), 0));
    hosts.run(2, hosts.at(2).replica.connected(nodeId(1), 0));
    const [mine, other] = [1, 2].map((k) => hosts.at(k).tables.hosts.get(nodeId(3)));
    expect(mine).toBeDefined();
    expect(mine).toEqual(other);
  });

  test("in sync is who compared with a peer and then had all that it knows", () => {
    const hosts = new Hosts();
    for (const k of [1, 2]) hosts.add(k, clusterState(2));
    hosts.run(1, hosts.at(1).replica.say(facts(1, [app.id]), 0));
    hosts.add(2, clusterState(2));
    const { replica, tables } = hosts.at(2);
    expect(replica.inSync()).toBe(false);
    hosts.run(2, replica.connected(nodeId(1), 0));
    expect(tables.hosts.get(nodeId(1))?.hosting).toEqual([app.id]);
    expect(replica.inSync()).toBe(true);
  });

  test("two that lost their disks do not take what both joined with for the newest", () => {
    const hosts = new Hosts();
    for (const k of [1, 2]) hosts.add(k, clusterState(2));
    hosts.run(1, hosts.at(1).replica.connected(nodeId(2), 0));
    hosts.run(2, hosts.at(2).replica.connected(nodeId(1), 0));
    for (const k of [1, 2]) {
      expect(hosts.at(k).replica.inSync()).toBe(true);
      expect(hosts.at(k).replica.stateIsFresh()).toBe(false);
    }
  });

  test("that a state is the newest goes from the controller from host to host", () => {
    const hosts = new Hosts();
    const state = clusterState(3);
    for (const k of [1, 2, 3]) hosts.add(k, state);
    const told = hosts.at(1).replica.controllerTold(signed(state), state, 0);
    expect(told).toEqual([{ kind: "changed" }]);
    for (const [from, to] of [
      [1, 2],
      [2, 3],
    ] as const) {
      expect(hosts.at(to).replica.stateIsFresh()).toBe(false);
      hosts.run(to, hosts.at(to).replica.connected(nodeId(from), 0));
      expect(hosts.at(to).replica.stateIsFresh()).toBe(true);
    }
  });

  test("a newer one that a sure peer has counts once it is here, a forged promise for nothing", () => {
    const hosts = new Hosts();
    const next = clusterState(2, { revision: 9 });
    hosts.add(1, clusterState(2));
    hosts.add(2, clusterState(2));
    const { replica } = hosts.at(2);
    const [ask] = replica.connected(nodeId(1), 0);
    const promise = { v: 1, kind: "clusterDigest", revision: 1_000_000, digest: [] };
    replica.answered((ask as { id: number }).id, encodeCbor(promise), 0);
    hosts.dropGossip = true;
    hosts.run(1, hosts.at(1).replica.controllerTold(signed(next), next, 0));
    expect(replica.stateIsFresh()).toBe(false);
    hosts.run(2, replica.connected(nodeId(1), 0));
    expect(hosts.at(2).tables.state?.revision).toBe(9);
    expect(replica.stateIsFresh()).toBe(true);
  });

  test("a controller that was restored from an old backup does not make an old state the newest", () => {
    const hosts = new Hosts();
    const old = clusterState(1, { revision: 3 });
    hosts.add(1, clusterState(1, { revision: 5 }));
    expect(hosts.at(1).replica.controllerTold(signed(old), old, 0)).toEqual([]);
    expect(hosts.at(1).replica.stateIsFresh()).toBe(false);
  });

  test("to disk before to the mesh", () => {
    const hosts = new Hosts();
    hosts.add(1, clusterState(1));
    const kinds = hosts
      .at(1)
      .replica.say(facts(1), 0)
      .map(({ kind }) => kind);
    expect(kinds).toEqual(["persistHost", "publish", "changed"]);
  });
});

test("with a state that admits hosts their words are asked for, which were refused before; not with each state", () => {
  const hosts = new Hosts();
  for (const k of [1, 2]) hosts.add(k, clusterState(2));
  const { replica } = hosts.at(1);
  const outputs = (state: ClusterState): string[] =>
    replica.stateVerified(signed(state), state, 0).map(({ kind }) => kind);
  expect(outputs(clusterState(3, { revision: 2 }))).toContain("request");
  expect(outputs(clusterState(3, { revision: 3 }))).not.toContain("request");
});

test("what a new host says costs those who hear of it its own document, however many hosts there are", () => {
  const asked = (members: number): { bytes: number; hosts: number } => {
    const hosts = new Hosts();
    for (const k of [1, 2]) hosts.add(k, clusterState(members));
    // What host 2 has heard of all others differs from what host 1 has.
    const next = clusterState(members + 1, { revision: 5 });
    hosts.dropGossip = true;
    for (let k = 3; k <= members + 1; k++) {
      const unsigned = { ...facts(k), node: nodeId(k), version: { incarnation: 1, seq: 1 } };
      const signature = hashSigner(nodeId(k)).sign(hostSigningBytes(unsigned));
      if (k > members) hosts.run(2, hosts.at(2).replica.stateVerified(signed(next), next, 0));
      const said = encodeCbor({ v: 1, kind: "host", document: { ...unsigned, signature } });
      hosts.run(2, hosts.at(2).replica.gossip(nodeId(k), said, 0));
    }
    let bytes = 0;
    const { replica, tables } = hosts.at(1);
    for (const output of replica.stateVerified(signed(next), next, 0))
      if (output.kind === "request") {
        const request = decodeMessage(ClusterSyncRequest, output.bytes, BOUNDS.syncMessageBytes);
        const answer = encodeCbor(hosts.at(2).replica.answer(nodeId(1), request));
        bytes += output.bytes.length + answer.length;
        replica.answered(output.id, answer, 0);
      }
    expect(tables.hosts.has(nodeId(members + 1))).toBe(true);
    expect(replica.inSync()).toBe(false);
    return { bytes, hosts: tables.hosts.size };
  };
  const [few, many] = [asked(4), asked(40)];
  expect(many.hosts).toBe(1);
  expect(many.bytes).toBeLessThan(few.bytes * 1.1);
});
