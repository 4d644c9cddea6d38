import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { KeyExchange } from "../../../agent/core/keys/ipsec.ts";
import type { KeyOutput } from "../../../agent/core/keys/ipsec-outbox.ts";
import {
  decodeKeyAnswer,
  decodeKeyRequest,
  encodeKeyMessage,
  type KeyAnswer,
  type KeyRequest,
  MAX_INBOUND,
} from "../../../agent/core/keys/ipsec-messages.ts";
import { DEFAULT_KEY_EXCHANGE_OPTIONS } from "../../../agent/core/keys/ipsec-options.ts";
import type { HeldSa, SaName } from "../../../agent/core/keys/security-association.ts";
import { hex } from "../../../shared/codec.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import { nodeId, vtepOf } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";

const OPTIONS = { ...DEFAULT_KEY_EXCHANGE_OPTIONS, jitter: 0 };
const of = (...ks: number[]): Map<NodeId, Ip> => new Map(ks.map((k) => [nodeId(k), vtepOf(k)]));
const inbound = (spi: number): SaName => ({ source: vtepOf(2), destination: vtepOf(1), spi });
const outbound = (spi: number): SaName => ({ source: vtepOf(1), destination: vtepOf(2), spi });
const held = (sa: SaName, packets = 0, bytes = 0): HeldSa => ({ ...sa, packets, bytes });
const session = (n: number): Uint8Array => new Uint8Array(16).fill(n);

/** Host 1's exchange, its outputs kept, what it asks of the kernel done at once unless held back. */
class Bench {
  readonly keys: KeyExchange;
  readonly kernel = new Map<number, HeldSa>();
  readonly said: KeyOutput[] = [];
  nowMs = 0;
  done = true;

  constructor(options: Partial<typeof OPTIONS> = {}, peers = of(2)) {
    this.keys = new KeyExchange(vtepOf(1), { ...OPTIONS, ...options }, seededRandom(1));
    this.out(this.keys.want(peers, 0));
  }

  out(outputs: readonly KeyOutput[]): KeyOutput[] {
    const all: KeyOutput[] = [];
    for (const output of outputs) {
      all.push(output);
      this.said.push(output);
      if (output.kind === "put") this.kernel.set(output.sa.spi, held(output.sa));
      if (output.kind === "remove") for (const { spi } of output.sas) this.kernel.delete(spi);
      if (this.done && (output.kind === "put" || output.kind === "remove"))
        all.push(...this.out(this.keys.done(output.id, this.nowMs)));
    }
    return all;
  }

  read(): KeyOutput[] {
    return this.out(this.keys.held([...this.kernel.values()], this.nowMs));
  }

  at(nowMs: number): KeyOutput[] {
    this.nowMs = nowMs;
    return this.out(this.keys.tick(nowMs));
  }

  ask(n: number, of = session(2), from = 2): KeyOutput[] {
    const message: KeyRequest = { v: 1, kind: "ask", session: of, n };
    return this.request(message, from);
  }

  request(message: KeyRequest, from = 2): KeyOutput[] {
    const bytes = encodeKeyMessage(message);
    return this.out(this.keys.requested(n++, nodeId(from), bytes, this.nowMs));
  }

  /** The peer's answer to the last question. */
  answer(answer: (request: KeyRequest) => KeyAnswer): KeyOutput[] {
    const { id, bytes } = this.asked().at(-1)!;
    const said = encodeKeyMessage(answer(decodeKeyRequest(bytes)));
    return this.out(this.keys.answered(id, said, this.nowMs));
  }

  giveKey(spi: number, by = session(2)): KeyOutput[] {
    return this.answer(({ session, ...request }) => ({
      v: 1,
      kind: "key",
      session: by,
      made: 1,
      asked: { session, n: request.kind === "ask" ? request.n : 0 },
      spi,
      key: new Uint8Array(36).fill(spi),
    }));
  }

  asked(): (KeyOutput & { kind: "request" })[] {
    return this.said.filter((output) => output.kind === "request");
  }
}
let n = 1;

const kinds = (outputs: readonly KeyOutput[]): string[] =>
  outputs.map((output) =>
    output.kind === "request"
      ? decodeKeyRequest(output.bytes).kind
      : output.kind === "answer"
        ? decodeKeyAnswer(output.bytes).kind
        : output.kind,
  );

function answerOf(outputs: readonly KeyOutput[]): KeyAnswer {
  const answer = outputs.find((output) => output.kind === "answer");
  expect(answer).toBeDefined();
  return decodeKeyAnswer(answer!.bytes);
}

describe("the exchange of keys, step by step", () => {
  test("a first contact: one question each way, and a path when both directions are there", () => {
    const bench = new Bench();
    expect(kinds(bench.read())).toEqual(["ask"]);
    expect(kinds(bench.giveKey(300))).toEqual(["put", "using"]);
    expect(bench.keys.ready(nodeId(2))).toBe(false);
    expect(kinds(bench.ask(1))).toEqual(["put", "key", "path"]);
    expect(bench.keys.ready(nodeId(2))).toBe(true);
    expect(bench.asked().length).toBe(2);
  });

  test("the key is told when the kernel has it, not before; refused, it is not told", () => {
    const bench = new Bench();
    bench.read();
    bench.done = false;
    const [put] = bench.ask(1);
    expect(kinds([put!])).toEqual(["put"]);
    bench.done = true;
    expect(kinds(bench.out(bench.keys.done((put as { id: number }).id, 0)))).toEqual(["key"]);
    bench.done = false;
    const [second] = bench.ask(2);
    bench.done = true;
    const failed = bench.out(bench.keys.failed((second as { id: number }).id, 0));
    expect(kinds(failed)).toEqual(["remove", "refused"]);
    expect(answerOf(failed)).toMatchObject({ kind: "refused", reason: "kernel" });
  });

  test("the predecessor goes after its grace, then the peer is told what is left", () => {
    const bench = new Bench();
    bench.read();
    bench.giveKey(300);
    bench.answer(() => ({ v: 1, kind: "noted", session: session(2), made: 1 }));
    expect(kinds(bench.at(OPTIONS.rekeyMs))).toEqual(["ask"]);
    expect(kinds(bench.giveKey(301))).toEqual(["put"]);
    expect(bench.keys.nextMs()).toBe(OPTIONS.rekeyMs + OPTIONS.outboundGraceMs);
    const after = bench.at(OPTIONS.rekeyMs + OPTIONS.outboundGraceMs);
    expect(kinds(after)).toEqual(["remove", "using"]);
    expect(after[0]).toMatchObject({ sas: [outbound(300)] });
    expect(decodeKeyRequest(bench.asked().at(-1)!.bytes)).toMatchObject({ spis: [301] });
  });

  test.each([
    ["packets", OPTIONS.rekeyPackets, 0],
    ["bytes", 0, OPTIONS.rekeyBytes],
  ])("so many %s, and the key is replaced", (_, packets, bytes) => {
    const bench = new Bench();
    bench.read();
    bench.giveKey(300);
    bench.nowMs = 10_000;
    bench.kernel.set(300, held(outbound(300), Math.max(0, packets - 1), Math.max(0, bytes - 1)));
    expect(kinds(bench.read())).not.toContain("ask");
    bench.kernel.set(300, held(outbound(300), packets, bytes));
    expect(kinds(bench.read())).toContain("ask");
  });

  test("a peer that lost what it gave is asked again at once, whoever of both speaks first", () => {
    const bench = new Bench();
    bench.read();
    bench.giveKey(300);
    bench.ask(1);
    bench.nowMs = 5000;
    expect(kinds(bench.ask(2))).not.toContain("ask");
    expect(kinds(bench.ask(1, session(3)))).toContain("ask");
  });

  test("what somebody took out of our kernel: the peer is asked, and learns of it by our session", () => {
    const bench = new Bench();
    bench.read();
    bench.giveKey(300);
    const { spi } = answerOf(bench.ask(1)) as KeyAnswer & { kind: "key" };
    const before = decodeKeyRequest(bench.asked()[0]!.bytes).session;
    bench.nowMs = 5000;
    bench.kernel.delete(spi);
    expect(kinds(bench.read())).toEqual(expect.arrayContaining(["path", "ask"]));
    expect(hex(decodeKeyRequest(bench.asked().at(-1)!.bytes).session)).not.toBe(hex(before));
    expect(bench.keys.counters.lost).toBe(1);
  });

  test("who is not wanted gets no key, also when that became so while the kernel worked", () => {
    const bench = new Bench();
    bench.read();
    const stranger = answerOf(bench.ask(1, session(7), 7));
    expect(stranger).toMatchObject({ kind: "refused", reason: "not-wanted" });
    bench.done = false;
    const [put] = bench.ask(1);
    const gone = bench.out(bench.keys.want(of(), 0));
    expect(gone).toMatchObject([{ kind: "remove", sas: [(put as { sa: SaName }).sa] }]);
    const late = bench.out(bench.keys.done((put as { id: number }).id, 0));
    expect(answerOf(late)).toMatchObject({ kind: "refused", reason: "not-wanted" });
  });

  test("an answer that comes too late is refused, and its key goes nowhere", () => {
    const bench = new Bench();
    bench.read();
    const [ask] = bench.asked();
    bench.at(OPTIONS.requestTimeoutMs);
    const answer = encodeKeyMessage({
      v: 1,
      kind: "key",
      session: session(2),
      made: 1,
      asked: { session: decodeKeyRequest(ask!.bytes).session, n: 1 },
      spi: 300,
      key: new Uint8Array(36),
    });
    expect(bench.keys.answered(ask!.id, answer, bench.nowMs)).toEqual([]);
    expect(bench.keys.counters.lateAnswers).toBe(1);
    expect(bench.kernel.size).toBe(0);
  });

  test("an answer to another's question, or with an SPI that we have, is none", () => {
    for (const change of [{ spi: 300 }, { asked: { session: session(9), n: 2 } }]) {
      const bench = new Bench();
      bench.read();
      bench.giveKey(300);
      bench.at(OPTIONS.rekeyMs);
      const answered = bench.answer(({ session: asker, ...request }) => ({
        v: 1,
        kind: "key",
        session: session(2),
        made: 2,
        asked: { session: asker, n: request.kind === "ask" ? request.n : 0 },
        spi: 301,
        key: new Uint8Array(36),
        ...change,
      }));
      expect(kinds(answered)).not.toContain("put");
      expect(bench.keys.counters.malformed).toBe(1);
    }
  });

  test("a peer that asks without end is refused, until it says what it uses", () => {
    const bench = new Bench();
    bench.read();
    const spis: number[] = [];
    for (let i = 1; i <= MAX_INBOUND; i++) {
      const answer = answerOf(bench.ask(i));
      if (answer.kind === "key") spis.push(answer.spi);
    }
    expect(spis.length).toBe(MAX_INBOUND);
    const full = answerOf(bench.ask(MAX_INBOUND + 1));
    expect(full).toMatchObject({ kind: "refused", reason: "full" });
    const using = { v: 1, kind: "using", session: session(2), spis: spis.slice(-1) } as const;
    const stale = bench.request({ ...using, of: session(9), made: 99 });
    expect(answerOf(stale)).toMatchObject({ kind: "stale" });
    const noted = bench.request({ ...using, of: full.session, made: full.made });
    expect(answerOf(noted)).toMatchObject({ kind: "noted" });
    expect(bench.kernel.size).toBe(MAX_INBOUND);
    bench.at(OPTIONS.inboundGraceMs);
    expect([...bench.kernel.keys()]).toEqual(spis.slice(-1));
    expect(answerOf(bench.ask(MAX_INBOUND + 2))).toMatchObject({ kind: "key" });
  });

  test("what is not answered is asked again, ever less often, and never more peers at once than the bound", () => {
    const bench = new Bench({ asking: 3 }, of(2, 3, 4, 5, 6, 7));
    expect(kinds(bench.read()).filter((kind) => kind === "ask").length).toBe(3);
    let last = 0;
    for (let i = 0; i < 200; i++) {
      const next = bench.keys.nextMs();
      expect(next).toBeLessThanOrEqual(last + OPTIONS.retryMaxMs);
      last = Math.max(last + 1, next);
      bench.at(last);
      const open = bench.asked().filter(({ timeoutMs, id }) => timeoutMs > 0 && id > 0).length;
      expect(open).toBeLessThanOrEqual(3 * (i + 2));
    }
    // 200 rounds; with a first retry of half a second and no backoff it would be thousands.
    expect(last).toBeGreaterThan(10 * OPTIONS.retryMaxMs);
    expect(bench.keys.status().every(({ failure }) => failure === "no-answer")).toBe(true);
  });

  test("after a start what the kernel has is used, and replaced in its time; what is nobody's goes", () => {
    const bench = new Bench();
    const foreign = { source: vtepOf(9), destination: vtepOf(1), spi: 900 };
    for (const sa of [inbound(400), outbound(401), foreign]) bench.kernel.set(sa.spi, held(sa));
    const first = bench.read();
    expect(kinds(first).filter((kind) => kind !== "path")).toEqual(["remove"]);
    expect(first.find(({ kind }) => kind === "remove")).toMatchObject({ sas: [{ spi: 900 }] });
    expect(bench.keys.ready(nodeId(2))).toBe(true);
    expect(bench.keys.nextMs()).toBeLessThanOrEqual(OPTIONS.adoptedMs);
    expect(kinds(bench.at(OPTIONS.adoptedMs))).toContain("ask");
  });

  describe("a peer that has another VTEP", () => {
    /** With keys of the former one, asked anew at the next. */
    function moved(): Bench {
      const bench = new Bench();
      bench.read();
      bench.giveKey(300);
      bench.ask(1);
      expect(bench.keys.vtepOf(nodeId(2))).toBe(vtepOf(2));
      bench.out(bench.keys.want(new Map([[nodeId(2), vtepOf(52)]]), bench.nowMs));
      return bench;
    }
    const former = (bench: Bench): number =>
      [...bench.kernel.values()].filter(({ source, destination }) =>
        [source, destination].includes(vtepOf(2)),
      ).length;

    test("is reached at the former one until both directions with the other are there", () => {
      const bench = moved();
      expect(kinds(bench.read())).toEqual([]);
      expect([former(bench), bench.keys.vtepOf(nodeId(2))]).toEqual([2, vtepOf(2)]);
      bench.giveKey(400, session(3));
      expect(bench.keys.vtepOf(nodeId(2))).toBe(vtepOf(2));
      bench.ask(1, session(3));
      expect([former(bench), bench.keys.vtepOf(nodeId(2))]).toEqual([2, vtepOf(52)]);
      expect(bench.kernel.get(400)).toMatchObject({ source: vtepOf(1), destination: vtepOf(52) });
    });

    test("keeps the former one's keys for its time, and no longer", () => {
      const bench = moved();
      bench.at(OPTIONS.formerMs - 1);
      expect(former(bench)).toBe(2);
      expect(kinds(bench.at(OPTIONS.formerMs)).slice(0, 2)).toEqual(["remove", "path"]);
      expect([former(bench), bench.keys.vtepOf(nodeId(2))]).toEqual([0, undefined]);
    });

    test("is given no key for a pair that one of both does not know", () => {
      const bench = moved();
      const refused = { kind: "refused", reason: "not-wanted" };
      const ask = (...ends: [Ip, Ip]) =>
        bench.request({ v: 1, kind: "ask", session: session(3), n: 1, ends });
      expect(answerOf(ask(vtepOf(2), vtepOf(1)))).toMatchObject(refused);
      expect(answerOf(ask(vtepOf(52), vtepOf(9)))).toMatchObject(refused);
      expect(answerOf(ask(vtepOf(52), vtepOf(1)))).toMatchObject({ kind: "key" });
    });

    test("loses both with its place, and twice moved the first of them", () => {
      const bench = moved();
      bench.out(bench.keys.want(new Map([[nodeId(2), vtepOf(62)]]), bench.nowMs));
      expect(former(bench)).toBe(0);
      const again = moved();
      expect(kinds(again.out(again.keys.want(new Map(), 0)))).toEqual(["remove", "path"]);
      expect(again.kernel.size).toBe(0);
    });
  });

  test("of two hosts behind one address only one gets keys, the same on every host", () => {
    const peers = new Map([
      [nodeId(3), vtepOf(2)],
      [nodeId(2), vtepOf(2)],
    ]);
    const bench = new Bench({}, peers);
    bench.read();
    expect(bench.keys.status().map(({ node }) => node)).toEqual([nodeId(2)]);
  });

  test("other limits hold from the next key on", () => {
    const bench = new Bench();
    bench.read();
    bench.giveKey(300);
    bench.keys.limit({ rekeyMs: 60_000, rekeyPackets: 1000, rekeyBytes: 2 ** 20 });
    expect(kinds(bench.at(60_000))).not.toContain("ask");
    expect(kinds(bench.at(OPTIONS.rekeyMs))).toContain("ask");
    bench.giveKey(301);
    expect(kinds(bench.at(OPTIONS.rekeyMs + 60_000))).toContain("ask");
  });

  test("by hand: new keys both ways, the old ones in use until then", () => {
    const bench = new Bench();
    bench.read();
    bench.giveKey(300);
    bench.ask(1);
    bench.nowMs = 60_000;
    const before = decodeKeyRequest(bench.asked()[0]!.bytes).session;
    expect(kinds(bench.out(bench.keys.rotate(undefined, bench.nowMs)))).toEqual(["ask"]);
    expect(bench.keys.ready(nodeId(2))).toBe(true);
    // By which the peer asks for its own.
    expect(hex(decodeKeyRequest(bench.asked().at(-1)!.bytes).session)).not.toBe(hex(before));
  });

  test("whatever comes instead of a message is counted, and answered with a refusal", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), (bytes) => {
        const bench = new Bench();
        bench.read();
        const outputs = bench.out(bench.keys.requested(1, nodeId(2), bytes, 0));
        expect(kinds(outputs)).toEqual(["refused"]);
        bench.out(bench.keys.answered(bench.asked()[0]!.id, bytes, 0));
        expect(bench.keys.counters.malformed).toBe(2);
      }),
    );
  });

  test("no key is in what is told of the exchange", () => {
    const bench = new Bench();
    bench.read();
    bench.giveKey(300);
    bench.ask(1);
    const puts = bench.said.filter((output) => output.kind === "put");
    expect(puts.length).toBe(2);
    const told = JSON.stringify([puts, bench.keys.status(), bench.keys.counters]);
    for (const { key } of puts) {
      expect(told).not.toContain(hex(key.reveal()).slice(0, 12));
      expect(told).not.toContain(`${key.reveal()[0]},${key.reveal()[1]}`);
    }
  });
});
