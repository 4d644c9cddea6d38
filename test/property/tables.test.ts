import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { changeOwn, overtake, type OwnChange } from "../../agent/core/tables/own-documents.ts";
import { Tables } from "../../agent/core/tables/tables.ts";
import { sha256 } from "../../shared/node/system.ts";
import type { NetworkDocument } from "../../shared/documents.ts";
import { app, clusterState, endpoint, hashSigner, node, nodeId } from "../support/cluster.ts";

const own = (k: number) => ({ node: nodeId(k), hasher: sha256, signer: hashSigner(nodeId(k)) });

/** A host's life: containers come and go, one change after the other. */
function life(k: number, changes: readonly { n: number; up: boolean }[]): OwnChange[] {
  const history: OwnChange[] = [];
  let held: NetworkDocument | undefined;
  for (const { n, up } of changes) {
    const change = changeOwn(
      own(k),
      app.id,
      held,
      up ? [endpoint(k, n)] : [],
      up ? [] : [endpoint(k, n).id],
    );
    history.push(change);
    held = change.document;
  }
  return history;
}

const lives = fc
  .array(
    fc.array(fc.record({ n: fc.integer({ min: 1, max: 6 }), up: fc.boolean() }), { maxLength: 12 }),
    {
      minLength: 1,
      maxLength: 4,
    },
  )
  .map((hosts) => hosts.map((changes, i) => life(i + 1, changes)));

const held = (tables: Tables) =>
  [...tables.documents(app.id)].toSorted(([a], [b]) => (a < b ? -1 : 1));

describe("the merge rule", () => {
  test("any order, any repetition of the same documents ends in the same tables", () => {
    fc.assert(
      fc.property(lives, fc.infiniteStream(fc.nat()), (hosts, picks) => {
        const documents = hosts.flat().map((change) => change.document);
        const inOrder = new Tables();
        for (const document of documents) inOrder.mergeNetwork(document);
        const shuffled = new Tables();
        const rest = [...documents, ...documents];
        while (rest.length > 0)
          for (const document of rest.splice((picks.next().value ?? 0) % rest.length, 1))
            shuffled.mergeNetwork(document);
        expect(held(shuffled)).toEqual(held(inOrder));
        for (const history of hosts) {
          const last = history.at(-1)?.document;
          if (last !== undefined) expect(shuffled.documents(app.id).get(last.node)).toEqual(last);
        }
      }),
    );
  });

  test("of a host with two histories too: versions signed twice end the same everywhere", () => {
    const pair = fc.tuple(...[0, 1].map(() => fc.array(fc.boolean(), { minLength: 1 })));
    fc.assert(
      fc.property(pair, fc.infiniteStream(fc.boolean()), (histories, turns) => {
        const [mine, clones] = histories.map((changes, i) =>
          life(
            1,
            changes.map((up, k) => ({ n: 1 + i + 2 * (k % 3), up })),
          ).map(({ document }) => document),
        );
        const [oneAfterTheOther, mixed] = [new Tables(), new Tables()];
        for (const document of [...mine!, ...clones!]) oneAfterTheOther.mergeNetwork(document);
        while (mine!.length + clones!.length > 0) {
          const document = turns.next().value === true ? mine!.shift() : clones!.shift();
          if (document !== undefined) mixed.mergeNetwork(document);
        }
        expect(held(mixed)).toEqual(held(oneAfterTheOther));
      }),
    );
  });

  test("deltas in any order, repaired by whole documents at gaps, end as the documents do", () => {
    let gaps = 0;
    let merged = 0;
    fc.assert(
      fc.property(lives, fc.infiniteStream(fc.nat()), (hosts, picks) => {
        const expected = new Tables();
        for (const { document } of hosts.flat()) expected.mergeNetwork(document);
        const tables = new Tables();
        const rest = hosts.flat();
        while (rest.length > 0)
          for (const { delta, document } of rest.splice(
            (picks.next().value ?? 0) % rest.length,
            1,
          )) {
            const outcome = tables.applyDelta(delta, sha256);
            if (outcome === "merged") merged++;
            if (outcome !== "gap") continue;
            gaps++;
            tables.mergeNetwork(document);
          }
        expect(held(tables)).toEqual(held(expected));
      }),
    );
    expect(Math.min(gaps, merged)).toBeGreaterThan(0);
  });

  test("a delta whose result is not what the owner hashed changes nothing", () => {
    const [first, second] = life(1, [
      { n: 1, up: true },
      { n: 2, up: true },
    ]);
    const tables = new Tables();
    expect(tables.applyDelta(first!.delta, sha256)).toBe("merged");
    expect(tables.applyDelta({ ...second!.delta, put: [endpoint(1, 3)] }, sha256)).toBe("gap");
    expect(tables.documents(app.id).get(nodeId(1))).toEqual(first!.document);
    expect(tables.applyDelta(second!.delta, sha256)).toBe("merged");
    expect(tables.applyDelta(second!.delta, sha256)).toBe("old");
  });

  test("an owner that meets its own newer document says the truth under the next incarnation", () => {
    const history = life(1, [
      { n: 1, up: true },
      { n: 2, up: true },
      { n: 3, up: true },
    ]);
    const oldDisk = history[0]!.document;
    const newest = history[2]!.document;
    const truth = overtake(own(1), oldDisk, newest)!.document;
    expect(truth.version).toEqual({ incarnation: 2, seq: 1 });
    expect(truth.endpoints).toEqual(oldDisk.endpoints);
    const peer = new Tables();
    peer.mergeNetwork(newest);
    expect(peer.mergeNetwork(truth)).toBe(true);
    expect(peer.mergeNetwork(newest)).toBe(false);
    expect(overtake(own(1), truth, newest)).toBeUndefined();
  });

  test("a lower revision of the state is refused", () => {
    const tables = new Tables();
    expect(tables.mergeState(clusterState(2, { revision: 7 }))).toBe(true);
    expect(tables.mergeState(clusterState(3, { revision: 6 }))).toBe(false);
    expect(tables.mergeState(clusterState(3, { revision: 7 }))).toBe(false);
    expect(tables.state?.nodes.length).toBe(2);
  });

  test("of a host that was revoked no word is kept, whichever comes first", () => {
    const word = {
      node: nodeId(2),
      version: { incarnation: 1, seq: 1 },
      bootId: "b",
      vtep: { advertised: node(2).vtep, local: node(2).vtep },
      underlayMtuBytes: 1500,
      capabilities: [],
      hosting: [app.id],
      signature: new Uint8Array(64),
    };
    const revoked = clusterState(1, { revision: 2, revoked: [nodeId(2)] });
    const before = new Tables();
    before.mergeHost(word);
    before.mergeState(revoked);
    const after = new Tables();
    after.mergeState(revoked);
    expect(after.mergeHost(word)).toBe(false);
    for (const tables of [before, after]) expect(tables.hosts.size).toBe(0);
  });

  test("the 1,023rd container of a host is refused by name", () => {
    const many = Array.from({ length: 1022 }, (_, i) => ({
      ...endpoint(1, 1),
      id: (0x10000000 + i).toString(16) as ReturnType<typeof endpoint>["id"],
    }));
    const { document } = changeOwn(own(1), app.id, undefined, many, []);
    expect(() => changeOwn(own(1), app.id, document, [endpoint(1, 2)], [])).toThrow(
      /1022 containers/,
    );
  });
});
