import { expect } from "vitest";
import { KeyExchange } from "../../agent/core/keys/ipsec.ts";
import type { KeyOutput } from "../../agent/core/keys/ipsec-outbox.ts";
import { MAX_INBOUND } from "../../agent/core/keys/ipsec-messages.ts";
import type { KeyExchangeOptions } from "../../agent/core/keys/ipsec-options.ts";
import { type SaName, saText } from "../../agent/core/keys/security-association.ts";
import { hex } from "../../shared/codec.ts";
import type { NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import { nodeId, vtepOf } from "../support/cluster.ts";
import { seededRandom, type SeededRandom } from "../support/seeded-random.ts";

/** Short, so that much happens in little simulated time. */
export const SIM_OPTIONS: KeyExchangeOptions = {
  rekeyMs: 2000,
  rekeyPackets: 10_000,
  rekeyBytes: 1e7,
  jitter: 0.2,
  requestTimeoutMs: 200,
  retryMs: 50,
  retryMaxMs: 400,
  outboundGraceMs: 50,
  inboundGraceMs: 150,
  formerMs: 120_000,
  adoptedMs: 100,
  asking: 4,
};

export const FAULTS = [
  "restart",
  "reboot",
  "flush",
  "lose-one",
  "unwant",
  "rotate",
  "refuse-steps",
  "stall-kernel",
] as const;
export type Fault = (typeof FAULTS)[number];

export interface WorldOptions {
  readonly hosts: number;
  readonly seed: number;
  /** Percent of messages. */
  readonly lost: number;
  readonly doubled: number;
  readonly maxDelayMs: number;
}

interface Sa extends SaName {
  readonly key: string;
  packets: number;
}

type Work = { kind: "step"; output: KeyOutput & { kind: "put" | "remove" } } | { kind: "read" };

interface Host {
  readonly k: number;
  readonly vtep: Ip;
  core: KeyExchange;
  process: number;
  readonly kernel: Map<string, Sa>;
  work: Work[];
  working: boolean;
  /** Steps that the kernel will refuse, or carry out and not answer. */
  refuse: number;
  stalledUntilMs: number;
  wanted: Set<number>;
  lastRequest: number;
  readonly requests: Map<number, (bytes: Uint8Array) => void>;
}

const READ_PERIOD_MS = 300;

/**
 * Hosts with cores, kernels in memory that are slow and refuse, and a channel that loses, doubles and
 * reorders; in virtual time. After every change of a kernel it is looked at what must always hold.
 */
export class KeyWorld {
  nowMs = 0;
  readonly #options: WorldOptions;
  readonly #random: SeededRandom;
  readonly hosts: Host[];
  readonly #events: { atMs: number; order: number; run: () => void }[] = [];
  #lastOrder = 0;
  #healed = false;
  /** By key: which halves have been installed, how often. */
  readonly #uses = new Map<string, { pair: string; in: number; out: number }>();
  /** Keys whose inbound half was taken away by a fault, or because the host was no longer wanted. */
  readonly #letGo = new WeakSet<SaName>();
  /** The same by host and key: what its kernel refused to remove is removed later, as a stray. */
  readonly #letGoKeys = new Set<string>();
  readonly #excused = new Set<string>();
  /** Outbound halves that a kernel has though it said that it refused. */
  readonly #unsure = new Set<string>();
  /** Outbound halves whose successor a fault took, while they were being retired for it. */
  readonly #bereft = new Set<string>();
  readonly #lastOutMs = new Map<string, number>();
  installed = 0;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed);
    this.hosts = Array.from({ length: options.hosts }, (_, i) => ({
      k: i + 1,
      vtep: vtepOf(i + 1),
      core: this.#newCore(i + 1),
      process: 0,
      kernel: new Map<string, Sa>(),
      work: [],
      working: false,
      refuse: 0,
      stalledUntilMs: 0,
      wanted: new Set(Array.from({ length: options.hosts }, (_, j) => j + 1)),
      lastRequest: 0,
      requests: new Map<number, (bytes: Uint8Array) => void>(),
    }));
    for (const host of this.hosts) {
      this.#want(host);
      this.#readAgain(host);
    }
  }

  fault(kind: Fault, k: number): void {
    const host = this.hosts[(k - 1) % this.hosts.length]!;
    switch (kind) {
      case "restart":
        return this.#restart(host);
      case "reboot":
        this.#lose(host, [...host.kernel.keys()]);
        return this.#restart(host);
      case "flush":
        this.#lose(host, [...host.kernel.keys()]);
        return this.#read(host);
      case "lose-one": {
        const names = [...host.kernel.keys()];
        if (names.length > 0) this.#lose(host, [names[this.#random.below(names.length)]!]);
        return this.#read(host);
      }
      case "unwant": {
        const other = 1 + this.#random.below(this.hosts.length);
        host.wanted.delete(other);
        for (const sa of host.kernel.values())
          if (sa.source === vtepOf(other)) this.#excused.add(sa.key);
        this.#excuseComing(host, other);
        this.#want(host);
        return this.#in(this.#random.below(500), () => {
          host.wanted.add(other);
          this.#want(host);
        });
      }
      case "rotate":
        return this.#do(host, host.core.rotate(undefined, this.nowMs));
      case "refuse-steps":
        host.refuse += 1 + this.#random.below(3);
        return;
      case "stall-kernel":
        host.stalledUntilMs = this.nowMs + this.#random.below(1000);
        return;
    }
  }

  /** From now on nothing is lost, late or refused. */
  heal(): void {
    this.#healed = true;
    for (const host of this.hosts) {
      host.refuse = 0;
      host.stalledUntilMs = 0;
      host.wanted = new Set(this.hosts.map(({ k }) => k));
      this.#want(host);
    }
  }

  runUntil(atMs: number): void {
    for (;;) {
      const event = this.#events[0];
      const ticking = Math.min(...this.hosts.map(({ core }) => core.nextMs()));
      const nextMs = Math.min(event?.atMs ?? Infinity, Math.max(this.nowMs, ticking));
      if (nextMs > atMs) break;
      this.nowMs = nextMs;
      if (event !== undefined && event.atMs <= nextMs) {
        this.#events.shift();
        event.run();
      } else
        for (const host of this.hosts)
          if (host.core.nextMs() <= nextMs) this.#do(host, host.core.tick(nextMs));
      // Timers that are due at once and do nothing would stop the time.
      if (ticking <= this.nowMs && event?.atMs !== nextMs) this.nowMs += 0.01;
    }
    this.nowMs = atMs;
  }

  /** Each ordered pair has one SA, the same at both its ends. */
  settled(): boolean {
    return this.hosts.every((source) =>
      this.hosts.every((destination) => {
        if (source === destination) return true;
        const of = (host: Host): Sa[] =>
          [...host.kernel.values()].filter(
            (sa) => sa.source === source.vtep && sa.destination === destination.vtep,
          );
        const [out, inbound] = [of(source), of(destination)];
        return out.length === 1 && inbound.length === 1 && out[0]!.key === inbound[0]!.key;
      }),
    );
  }

  ready(): boolean {
    return this.hosts.every(({ core, k }) =>
      this.hosts.every((other) => other.k === k || core.ready(nodeId(other.k))),
    );
  }

  /** Keys that are made in answers that still travel, or wait for the kernel. */
  #excuseComing(host: Host, other: number): void {
    for (const work of host.work)
      if (work.kind === "step" && work.output.kind === "put")
        if (work.output.sa.source === vtepOf(other))
          this.#excused.add(hex(work.output.key.reveal()));
  }

  #newCore(k: number): KeyExchange {
    const { random } = { random: this.#random };
    return new KeyExchange(vtepOf(k), SIM_OPTIONS, random);
  }

  #want(host: Host): void {
    const peers = new Map<NodeId, Ip>(
      [...host.wanted].filter((k) => k !== host.k).map((k) => [nodeId(k), vtepOf(k)]),
    );
    this.#do(host, host.core.want(peers, this.nowMs));
  }

  /** What the old process had begun is carried out or not; then a new one. */
  #restart(host: Host): void {
    const [begun] = host.work;
    if (begun?.kind === "step" && this.#random.below(2) === 0) this.#carryOut(host, begun.output);
    host.work = [];
    host.working = false;
    host.process++;
    host.core = this.#newCore(host.k);
    host.requests.clear();
    this.#want(host);
    this.#read(host);
  }

  #lose(host: Host, names: readonly string[]): void {
    for (const name of names) {
      const sa = host.kernel.get(name)!;
      if (sa.destination === host.vtep) this.#excused.add(sa.key);
      host.kernel.delete(name);
      for (const left of host.kernel.values())
        if (sa.source === host.vtep && left.destination === sa.destination)
          this.#bereft.add(left.key);
    }
  }

  #readAgain(host: Host): void {
    this.#read(host);
    this.#in(READ_PERIOD_MS, () => this.#readAgain(host));
  }

  #read(host: Host): void {
    host.work.push({ kind: "read" });
    this.#work(host);
  }

  /** One step after another, each some time after the one before. */
  #work(host: Host): void {
    const { process } = host;
    if (host.working || host.work.length === 0) return;
    host.working = true;
    const wait = Math.max(0, host.stalledUntilMs - this.nowMs) + this.#random.below(4);
    this.#in(wait, () => {
      if (host.process !== process) return;
      const work = host.work.shift()!;
      host.working = false;
      if (work.kind === "read") {
        const sas = [...host.kernel.values()].map((sa) => ({ ...sa, bytes: sa.packets * 100 }));
        this.#do(host, host.core.held(sas, this.nowMs));
      } else {
        const refused = host.refuse > 0 && host.refuse-- > 0;
        // Refused, or carried out and the answer lost.
        const carriedOut = !refused || this.#random.below(2) === 0;
        if (refused && carriedOut && work.output.kind === "put")
          this.#unsure.add(hex(work.output.key.reveal()));
        if (carriedOut) this.#carryOut(host, work.output);
        const { id } = work.output;
        this.#do(host, host.core[refused ? "failed" : "done"](id, this.nowMs));
      }
      this.#work(host);
    });
  }

  #do(host: Host, outputs: readonly KeyOutput[]): void {
    for (const output of outputs)
      switch (output.kind) {
        case "put":
        case "remove":
          this.#noteUnwanted(host, output);
          host.work.push({ kind: "step", output });
          this.#work(host);
          break;
        case "request": {
          const { process } = host;
          this.#send(() => {
            const to = this.hosts.find(({ k }) => nodeId(k) === output.to)!;
            const id = ++to.lastRequest;
            to.requests.set(id, (bytes) =>
              this.#send(() => {
                if (host.process === process)
                  this.#do(host, host.core.answered(output.id, bytes, this.nowMs));
              }),
            );
            this.#do(to, to.core.requested(id, nodeId(host.k), output.bytes, this.nowMs));
          });
          break;
        }
        case "answer":
          host.requests.get(output.id)?.(output.bytes);
          host.requests.delete(output.id);
          break;
        case "path":
          expect(host.core.ready(output.node)).toBe(output.ready);
          break;
      }
  }

  #send(arrive: () => void): void {
    const { lost, doubled, maxDelayMs } = this.#options;
    if (this.#healed) return this.#in(1, arrive);
    const copies = this.#random.below(100) < doubled ? 2 : 1;
    for (let i = 0; i < copies; i++)
      if (this.#random.below(100) >= lost) this.#in(this.#random.below(maxDelayMs + 1), arrive);
  }

  #in(ms: number, run: () => void): void {
    const event = { atMs: this.nowMs + ms, order: ++this.#lastOrder, run };
    const at = this.#events.findIndex(({ atMs }) => atMs > event.atMs);
    this.#events.splice(at < 0 ? this.#events.length : at, 0, event);
  }

  #carryOut(host: Host, output: KeyOutput & { kind: "put" | "remove" }): void {
    if (output.kind === "put") this.#put(host, output.sa, hex(output.key.reveal()));
    else for (const sa of output.sas) this.#remove(host, sa);
    this.#check();
  }

  #put(host: Host, sa: SaName, key: string): void {
    const pair = `${sa.source} > ${sa.destination} ${sa.spi}`;
    const use = this.#uses.get(key) ?? { pair, in: 0, out: 0 };
    this.#uses.set(key, use);
    use[sa.source === host.vtep ? "out" : "in"]++;
    // No key twice, and none at another pair.
    expect(use.pair).toBe(pair);
    expect(use.in).toBeLessThanOrEqual(1);
    expect(use.out).toBeLessThanOrEqual(1);
    expect(host.kernel.has(saText(sa))).toBe(false);
    host.kernel.set(saText(sa), { ...sa, key, packets: this.#random.below(12_000) });
    if (sa.source === host.vtep) this.installed++;
  }

  #remove(host: Host, name: SaName): void {
    const sa = host.kernel.get(saText(name));
    if (sa === undefined) return;
    const others = (): Sa[] =>
      [...host.kernel.values()].filter(
        ({ source, destination }) => source === sa.source && destination === sa.destination,
      );
    host.kernel.delete(saText(name));
    const other = this.hosts.find(
      ({ vtep }) => vtep !== host.vtep && (vtep === sa.source || vtep === sa.destination),
    )!;
    const letGo = this.#letGo.has(name) || this.#letGoKeys.has(`${host.k} ${sa.key}`);
    const wanted = host.wanted.has(other.k) && !letGo;
    if (sa.source === host.vtep) {
      // The successor is there before: but for one that the kernel was said not to have.
      const isExcused = [this.#unsure, this.#excused, this.#bereft].some((set) => set.has(sa.key));
      if (wanted && !isExcused) expect(others().length, saText(sa)).toBeGreaterThan(0);
    } else if (wanted && !this.#excused.has(sa.key)) {
      const last = this.#lastOutMs.get(sa.key) ?? -Infinity;
      expect(this.nowMs - last, saText(sa)).toBeGreaterThanOrEqual(SIM_OPTIONS.inboundGraceMs);
    }
  }

  /** Decided while the peer was not wanted; by the time the kernel does it, it may be again. */
  #noteUnwanted(host: Host, output: KeyOutput & { kind: "put" | "remove" }): void {
    if (output.kind === "put") return;
    for (const sa of output.sas) {
      const isEnd = ({ vtep }: Host): boolean => vtep === sa.source || vtep === sa.destination;
      const other = this.hosts.find((each) => each !== host && isEnd(each));
      if (other !== undefined && host.wanted.has(other.k)) continue;
      this.#letGo.add(sa);
      const held = host.kernel.get(saText(sa));
      if (held !== undefined) this.#letGoKeys.add(`${host.k} ${held.key}`);
    }
  }

  /** Whatever is sent finds its other half, and there are never many. */
  #check(): void {
    for (const host of this.hosts) {
      const counts = new Map<string, number>();
      for (const sa of host.kernel.values()) {
        const pair = `${sa.source} > ${sa.destination}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
        if (sa.source !== host.vtep) continue;
        this.#lastOutMs.set(sa.key, this.nowMs);
        const peer = this.hosts.find(({ vtep }) => vtep === sa.destination)!;
        if (!this.#excused.has(sa.key))
          expect(peer.kernel.get(saText(sa))?.key, saText(sa)).toBe(sa.key);
      }
      for (const [pair, count] of counts) expect(count, pair).toBeLessThanOrEqual(MAX_INBOUND);
    }
  }
}
