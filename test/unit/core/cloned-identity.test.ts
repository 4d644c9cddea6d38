import { describe, expect, test } from "vitest";
import { ClusterReplica, type HostFacts } from "../../../agent/core/tables/cluster-replica.ts";
import { OVERTAKE_PERIOD_MS } from "../../../agent/core/tables/own-documents.ts";
import { type Output, Replica } from "../../../agent/core/tables/replica.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import type { HostDocument } from "../../../shared/documents.ts";
import type { NetworkId } from "../../../shared/ids.ts";
import { sha256 } from "../../../shared/node/system.ts";
import {
  app,
  clusterState,
  endpoint,
  hashSigner,
  hashVerifier,
  node,
  nodeId,
} from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";

/** h2 on one machine, in one boot: its disk is what it is given, and it hears what it is handed. */
class Machine {
  readonly replica: ClusterReplica;
  readonly tables = new Tables();
  readonly bootId: string;

  constructor(bootId: string, disk: readonly HostDocument[] = []) {
    this.bootId = bootId;
    this.replica = new ClusterReplica(
      this.tables,
      { node: nodeId(2), syncPeriodMs: 1500, requestTimeoutMs: 1000 },
      {
        hasher: sha256,
        signer: hashSigner(nodeId(2)),
        verifier: hashVerifier,
        random: seededRandom(1),
        peers: () => [],
      },
    );
    const state = clusterState(2);
    this.replica.restore(disk, { jws: "", controllerCertificate: "" }, state);
  }

  say(hosting: readonly NetworkId[] = []): HostDocument {
    const { vtep } = node(2);
    const facts: HostFacts = {
      bootId: this.bootId,
      vtep: { advertised: vtep, local: vtep },
      underlayMtuBytes: 1500,
      capabilities: [],
      hosting: [...hosting],
    };
    this.replica.say(facts, 0);
    return this.word();
  }

  word(): HostDocument {
    return this.tables.hosts.get(nodeId(2))!;
  }

  /** True: it had to say its own again. */
  hears(document: HostDocument, nowMs: number): boolean {
    const bytes = encodeCbor({ v: 1, kind: "host", document });
    return this.replica.gossip(nodeId(1), bytes, nowMs).length > 0;
  }
}

/** They hear each other for so long, once every half of the period. */
function together(a: Machine, b: Machine, fromMs: number, forMs: number): void {
  for (let ms = fromMs; ms <= fromMs + forMs; ms += OVERTAKE_PERIOD_MS / 2) {
    a.hears(b.word(), ms);
    b.hears(a.word(), ms);
  }
}

describe("a machine that was copied whole", () => {
  function cloned(): [Machine, Machine] {
    const before = new Machine("before").say();
    const [original, copy] = [new Machine("original", [before]), new Machine("copy", [before])];
    original.say([app.id]);
    copy.say();
    return [original, copy];
  }

  test("is named on both, while both live and not much longer", () => {
    const [original, copy] = cloned();
    together(original, copy, 0, 10_000);
    expect(original.replica.otherMachine(10_000)).toBe("copy");
    expect(copy.replica.otherMachine(10_000)).toBe("original");
    // The agents start again, on both sides: it is the same two machines.
    const again = new Machine("original", [original.word()]);
    again.say([app.id]);
    together(again, copy, 20_000, 10_000);
    expect(again.replica.otherMachine(30_000)).toBe("copy");
    expect(again.replica.otherMachine(30_000 + 3_600_000)).toBeUndefined();
  });

  test("is overtaken as often as all hosts can bear to hear of it", () => {
    const [original, copy] = cloned();
    let times = 0;
    for (let ms = 0; ms < 10 * OVERTAKE_PERIOD_MS; ms += 10) {
      if (original.hears(copy.word(), ms)) times++;
      if (copy.hears(original.word(), ms)) times++;
    }
    expect(times).toBeGreaterThanOrEqual(10);
    expect(times).toBeLessThanOrEqual(22);
  });
});

describe("a machine that was started again", () => {
  test("is one machine, however old its disk is", () => {
    const first = new Machine("first");
    const words = [first.say([app.id]), first.say(), first.say([app.id])];
    const second = new Machine("second", words.slice(0, 1));
    const more = [second.say(), second.say([app.id])];
    // It met what it had said before, and said so.
    second.hears(words[2]!, 0);
    const third = new Machine("third", words.slice(0, 1));
    third.say();
    for (const [i, word] of [...words, ...more, second.word()].entries())
      third.hears(word, 10_000 * i);
    expect(third.replica.otherMachine(60_000)).toBeUndefined();
    expect(third.word()).toMatchObject({ bootId: "third", hosting: [] });
    expect(third.word().version.incarnation).toBeGreaterThan(second.word().version.incarnation);
  });

  test("meets what it said itself before its disk was lost", () => {
    const before = new Machine("boot");
    before.say([app.id]);
    before.say();
    const after = new Machine("boot");
    after.say();
    expect(after.hears(before.word(), 0)).toBe(true);
    expect(after.replica.otherMachine(0)).toBeUndefined();
    expect(after.word()).not.toHaveProperty("overtook");
  });
});

/** What a machine says of a network, as it was published last. */
class OnNetwork {
  readonly replica: Replica;
  #delta: Uint8Array = new Uint8Array();

  constructor(container: number) {
    this.replica = new Replica(
      { node: nodeId(2), syncPeriodMs: 1500, requestTimeoutMs: 1000 },
      {
        hasher: sha256,
        signer: hashSigner(nodeId(2)),
        verifier: hashVerifier,
        random: seededRandom(1),
        peers: () => [],
      },
    );
    this.replica.tables.mergeState(clusterState(2));
    this.replica.join(app.id, 0);
    this.#said(this.replica.change(app.id, [endpoint(2, container)], [], 0));
  }

  /** True: it had to say its own again. */
  hears(other: OnNetwork, nowMs: number): boolean {
    const asked = this.replica.gossip(app.id, nodeId(1), other.#delta, nowMs);
    return asked.some((output) => {
      if (output.kind !== "request") return false;
      const answer = other.replica.answer(nodeId(1), output.bytes);
      return this.#said(this.replica.answered(output.id, answer, nowMs));
    });
  }

  #said(outputs: readonly Output[]): boolean {
    const published = outputs.find((output) => output.kind === "publish");
    if (published !== undefined) this.#delta = published.bytes;
    return published !== undefined;
  }
}

test("of a network's documents too the next is overtaken a while after the last", () => {
  const [original, copy] = [new OnNetwork(5), new OnNetwork(6)];
  let times = 0;
  for (let ms = 0; ms < 10 * OVERTAKE_PERIOD_MS; ms += 10) {
    if (original.hears(copy, ms)) times++;
    if (copy.hears(original, ms)) times++;
  }
  expect(times).toBeGreaterThanOrEqual(10);
  expect(times).toBeLessThanOrEqual(22);
});
