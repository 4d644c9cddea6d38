import { describe, expect, test } from "vitest";
import {
  DEFAULT_REPLICA_OPTIONS,
  type Output,
  Replica,
} from "../../../agent/core/tables/replica.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import type { NetworkDocument } from "../../../shared/documents.ts";
import { NetworkId } from "../../../shared/ids.ts";
import {
  app,
  endpoint,
  hashSigner,
  hashVerifier,
  nodeId,
  clusterState,
} from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";

function replica(k: number, peers: number[]): Replica {
  const made = new Replica(
    { node: nodeId(k), ...DEFAULT_REPLICA_OPTIONS },
    {
      hasher: sha256,
      signer: hashSigner(nodeId(k)),
      verifier: hashVerifier,
      random: seededRandom(k),
      peers: () => peers.map(nodeId),
    },
  );
  made.tables.mergeState(clusterState(3));
  return made;
}

const others = NetworkId.parse("0b".repeat(16));

const of = <K extends Output["kind"]>(kind: K, outputs: readonly Output[]) =>
  outputs.filter((output): output is Extract<Output, { kind: K }> => output.kind === kind);

const ids = (held: Replica, k: number): string[] =>
  (held.tables.documents(app.id).get(nodeId(k))?.endpoints ?? []).map(({ id }) => id);

/** Requests of `from` are answered by `to` until there are none; everything put out on the way. */
function exchange(from: Replica, to: Replica, outputs: readonly Output[], nowMs: number): Output[] {
  const seen = [...outputs];
  const requests = of("request", outputs);
  for (let request = requests.shift(); request !== undefined; request = requests.shift()) {
    const more = from.answered(request.id, to.answer(nodeId(2), request.bytes), nowMs);
    seen.push(...more);
    requests.push(...of("request", more));
  }
  return seen;
}

function publish(outputs: readonly Output[], to: Replica, from: number): Output[] {
  return of("publish", outputs).flatMap(({ bytes }) => to.gossip(app.id, nodeId(from), bytes, 0));
}

describe("a replica", () => {
  test("a change goes to disk before it goes to the mesh, and to a peer's table", () => {
    const [a, b] = [replica(1, [2]), replica(2, [1])];
    a.join(app.id, 0);
    b.join(app.id, 0);
    const outputs = a.change(app.id, [endpoint(1, 5)], [], 0);
    expect(outputs.map((output) => output.kind)).toEqual(["persist", "publish", "dirty"]);
    expect(publish(outputs, b, 1).map((output) => output.kind)).toEqual(["persist", "dirty"]);
    expect(ids(b, 1)).toEqual([endpoint(1, 5).id]);
  });

  test("who joins late has everything after one exchange, and only then is in sync", () => {
    const [a, b] = [replica(1, []), replica(2, [1])];
    a.join(app.id, 0);
    a.change(app.id, [endpoint(1, 5), endpoint(1, 6)], [], 0);
    const asked = b.join(app.id, 0);
    expect(b.inSync(app.id)).toBe(false);
    exchange(b, a, asked, 0);
    expect(b.inSync(app.id)).toBe(true);
    expect(ids(b, 1).length).toBe(2);
  });

  test("a host without the network learns nothing and tells nothing of it", () => {
    const [a, b] = [replica(1, []), replica(2, [1])];
    a.join(app.id, 0);
    const outputs = a.change(app.id, [endpoint(1, 5)], [], 0);
    expect(publish(outputs, b, 1)).toEqual([]);
    expect(b.counters.notSubscribed).toBe(1);
    b.join(app.id, 0);
    exchange(b, a, b.tick(10_000), 10_000);
    expect(ids(b, 1).length).toBe(1);
    expect(b.leave(app.id).map((output) => output.kind)).toEqual(["forget", "dirty"]);
    expect(ids(b, 1)).toEqual([]);
    const request = replica(3, [2]).join(app.id, 0);
    expect(b.answer(nodeId(3), of("request", request)[0]!.bytes)).toEqual(
      encodeCbor({ v: 1, kind: "notHere" }),
    );
  });

  test("an owner restored to the version the mesh holds, with other content, overtakes itself", () => {
    const [owner, peer] = [replica(1, [2]), replica(2, [1])];
    owner.join(app.id, 0);
    peer.join(app.id, 0);
    const first = owner.change(app.id, [endpoint(1, 5)], [], 0);
    const oldDisk = of("persist", first).map(({ document }): NetworkDocument => document);
    publish(first, peer, 1);
    publish(owner.change(app.id, [endpoint(1, 6)], [], 0), peer, 1);

    const restored = replica(1, [2]);
    restored.restore(oldDisk);
    restored.join(app.id, 0);
    const other = restored.change(app.id, [endpoint(1, 7)], [], 0);
    // Version 1.2 twice: the peer takes the second for one it knows.
    expect(publish(other, peer, 1)).toEqual([]);
    const repaired = exchange(restored, peer, restored.tick(10_000), 10_000);
    expect(restored.counters.overtaken).toBe(1);
    for (const output of of("publish", repaired))
      exchange(peer, restored, peer.gossip(app.id, nodeId(1), output.bytes, 0), 0);
    expect(ids(peer, 1)).toEqual([endpoint(1, 5).id, endpoint(1, 7).id]);
    expect(peer.tables.documents(app.id).get(nodeId(1))?.version).toEqual({
      incarnation: 2,
      seq: 1,
    });
  });

  test("of two documents of one version, both signed, all end with the same", () => {
    const [a, b] = [replica(2, [3]), replica(3, [2])];
    for (const [peer, n] of [
      [a, 5],
      [b, 6],
    ] as const) {
      peer.join(app.id, 0);
      publish(replica(1, []).change(app.id, [endpoint(1, n)], [], 0), peer, 1);
    }
    expect([ids(a, 1), ids(b, 1)]).toEqual([[endpoint(1, 5).id], [endpoint(1, 6).id]]);
    exchange(a, b, a.tick(10_000), 10_000);
    exchange(b, a, b.tick(10_000), 10_000);
    expect(ids(a, 1)).toEqual(ids(b, 1));
    expect(ids(a, 1)).toHaveLength(1);
  });

  test("a peer that holds the same other tables again and again is told of; a delay is not", () => {
    const [a, b] = [replica(1, [2]), replica(2, [1])];
    a.join(app.id, 0);
    b.join(app.id, 0);
    publish(a.change(app.id, [endpoint(1, 5)], [], 0), b, 1);
    const round = (nowMs: number): void => void exchange(b, a, b.tick(nowMs), nowMs);
    // Only memory that gave back something else makes two of one version.
    const held = a.tables.documents(app.id).get(nodeId(1))!;
    const third = { ...held, node: nodeId(3) };
    a.tables.mergeNetwork({ ...third, endpoints: [endpoint(3, 5)] });
    b.tables.mergeNetwork({ ...third, endpoints: [endpoint(3, 6)] });
    for (let nowMs = 10_000; nowMs < 20_000; nowMs += 3000) {
      round(nowMs);
      expect(b.differing(app.id)).toEqual([]);
    }
    round(22_000);
    expect(b.differing(app.id)).toEqual([nodeId(1)]);
    expect(b.differing(others)).toEqual([]);
    const newer = { ...third, version: { incarnation: 1, seq: 9 } };
    for (const { tables } of [a, b]) tables.mergeNetwork(newer);
    round(25_000);
    expect(b.differing(app.id)).toEqual([]);
    // Each time something else: it is on its way.
    for (let n = 6; n < 12; n++) {
      a.change(app.id, [endpoint(1, n)], [], n * 5000);
      round(n * 5000);
      expect(b.differing(app.id)).toEqual([]);
    }
  });

  test("a document nobody signed, and bytes that are no message, change nothing and are counted", () => {
    const [a, b] = [replica(1, []), replica(2, [1])];
    b.join(app.id, 0);
    a.join(app.id, 0);
    const forger = new Replica(
      { node: nodeId(1), ...DEFAULT_REPLICA_OPTIONS },
      {
        hasher: sha256,
        signer: hashSigner(nodeId(3)),
        verifier: hashVerifier,
        random: seededRandom(1),
        peers: () => [],
      },
    );
    forger.join(app.id, 0);
    forger.tables.mergeState(clusterState(3));
    expect(publish(forger.change(app.id, [endpoint(1, 5)], [], 0), b, 1)).toEqual([]);
    exchange(b, forger, b.tick(10_000), 10_000);
    expect(b.counters.badSignature).toBe(2);
    expect(b.gossip(app.id, nodeId(1), Uint8Array.of(1, 2, 3), 0)).toEqual([]);
    expect(b.counters.malformed).toBe(1);
    expect(b.tables.documents(app.id).size).toBe(0);
    expect(() => a.answer(nodeId(2), Uint8Array.of(0xff))).toThrow(/CBOR/);
  });

  test("a host that may not have the network learns nothing of it, a stranger's documents are not kept", () => {
    const [a, b] = [replica(1, []), replica(2, [1])];
    for (const held of [a, b]) held.join(app.id, 0);
    a.change(app.id, [endpoint(1, 5)], [], 0);
    const request = of("request", b.tick(10_000))[0]!;
    const notHere = encodeCbor({ v: 1, kind: "notHere" });
    expect(a.answer(nodeId(9), request.bytes)).toEqual(notHere);
    expect(a.answer(nodeId(2), request.bytes)).not.toEqual(notHere);
    const stranger = replica(9, []);
    stranger.join(app.id, 0);
    publish(stranger.change(app.id, [endpoint(9, 5)], [], 0), a, 2);
    expect(a.counters.notMembers).toBe(1);
    expect(ids(a, 9)).toEqual([]);
  });

  test("a request nobody answers is given up and counted, its late answer dropped", () => {
    const [a, b] = [replica(1, []), replica(2, [1])];
    a.join(app.id, 0);
    const request = of("request", b.join(app.id, 0))[0]!;
    b.tick(DEFAULT_REPLICA_OPTIONS.requestTimeoutMs);
    expect(b.counters.timeouts).toBe(1);
    expect(b.answered(request.id, a.answer(nodeId(2), request.bytes), 2000)).toEqual([]);
    expect(b.counters.staleAnswers).toBe(1);
    expect(b.inSync(app.id)).toBe(false);
  });

  test("who is asked by a peer that holds something else asks back soon, and once", () => {
    const [a, b] = [replica(1, [2, 3]), replica(2, [1])];
    // Both settled: rounds are rare by now.
    for (const one of [a, b]) exchange(one, one === a ? b : a, one.join(app.id, 0), 0);
    a.tick(10_000);
    b.change(app.id, [endpoint(2, 7)], [], 10_000);
    const [asked] = of("request", b.tick(10_000));
    a.answer(nodeId(2), asked!.bytes);
    const nowMs = 10_000 + DEFAULT_REPLICA_OPTIONS.syncPeriodMs / 8;
    expect(a.nextMs()).toBeLessThanOrEqual(nowMs);
    const back = a.tick(nowMs);
    expect(of("request", back).map(({ to }) => to)).toEqual([nodeId(2)]);
    exchange(a, b, back, nowMs);
    expect(ids(a, 2)).toEqual([endpoint(2, 7).id]);
    // A peer that will not agree is not asked again for the same.
    const after = a.nextMs();
    a.answer(nodeId(2), asked!.bytes);
    expect(a.nextMs()).toBe(after);
  });
});
