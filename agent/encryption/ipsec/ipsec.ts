import type { Failure } from "../../../shared/errors.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import type { Clock, Log, Random } from "../../../shared/ports.ts";
import { KeyExchange, type PeerStatus } from "../../core/keys/ipsec.ts";
import type { KeyOutput } from "../../core/keys/ipsec-outbox.ts";
import type { KeyExchangeOptions, RekeyLimits } from "../../core/keys/ipsec-options.ts";
import type { KeyExchangeCounters } from "../../core/keys/ipsec-pair.ts";
import { PassLoop, type PassLoopTimes } from "../../../shared/node/pass-loop.ts";
import { saText } from "../../core/keys/security-association.ts";
import type { IpsecKernel, KeyChannel } from "./port.ts";

export interface IpsecOptions {
  readonly local: Ip;
  readonly keys: KeyExchangeOptions;
  /** Between two comparisons of the kernel with what is believed of it; counters are read with them. */
  readonly readPeriodMs: number;
  /** Of the policies: what is looked at again, and what is written again after a failure. */
  readonly guards?: PassLoopTimes | undefined;
  /** False: this host still sends from the address that it had before. */
  readonly leaves?: () => boolean;
}

export const DEFAULT_IPSEC_TIMES = { readPeriodMs: 10_000 } as const;

export interface IpsecModules {
  readonly kernel: IpsecKernel;
  readonly channel: KeyChannel;
  readonly clock: Pick<Clock, "nowMs">;
  readonly random: Random;
  readonly log: Log;
}

/** News that come together are one reading. */
const COALESCE_MS = 20;
/** Peers' questions that wait for the kernel: more are refused. */
const MAX_WAITING = 4096;

/**
 * IPsec of this host as it runs: the exchange of keys with its kernel, its channel and its timers, and
 * the policies, put back whenever somebody takes them away.
 */
export class Ipsec {
  readonly #options: IpsecOptions;
  readonly #modules: IpsecModules;
  readonly #keys: KeyExchange;
  #pathListener: (node: NodeId) => void = () => {};
  #guardListener: (failure: Failure | undefined) => void = () => {};
  /** Kernel work, one after another: what was read is of before or after a step, never of its middle. */
  readonly #work: (() => Promise<void>)[] = [];
  #working: Promise<void> | undefined;
  readonly #waiting = new Map<number, (bytes: Uint8Array) => void>();
  #lastRequest = 0;
  #timer: NodeJS.Timeout | undefined;
  #timerAtMs = Infinity;
  #rescheduling = false;
  #reading: NodeJS.Timeout | undefined;
  readonly #guards: PassLoop;
  #leftElsewhere = false;
  #stopped = false;

  constructor(options: IpsecOptions, modules: IpsecModules) {
    this.#options = options;
    this.#modules = modules;
    this.#keys = new KeyExchange(options.local, options.keys, modules.random);
    this.#guards = new PassLoop(
      () => this.#guard(),
      (failure) => this.#guarded(failure),
      options.guards,
    );
  }

  /**
   * Policies first: they stand before there is any device of the class. Then what an earlier process left
   * was read and taken over. @throws UNSUPPORTED or NETLINK: the host cannot take part in the class.
   */
  async start(peers: ReadonlyMap<NodeId, Ip>): Promise<void> {
    const { kernel, channel } = this.#modules;
    await kernel.check();
    await kernel.setPolicies();
    kernel.onLoss((of) => {
      if (of === "associations") this.#readSoon(COALESCE_MS);
      else this.#guards.dirty();
    });
    // Lost between the writing and the listening.
    this.#guards.dirty();
    this.want(peers);
    channel.serve((from, bytes) => this.#serve(from, bytes));
    await new Promise<void>((resolve) => {
      this.#queue(() => this.#read().finally(resolve));
    });
  }

  /** The hosts that share a network of the class with us, by VTEP; again whenever that changes. */
  want(peers: ReadonlyMap<NodeId, Ip>): void {
    this.#carryOut(this.#keys.want(peers, this.#nowMs()));
  }

  /** Other limits, for keys that are made from now on. */
  limit(limits: RekeyLimits): void {
    this.#keys.limit(limits);
  }

  /** False: the kernel could not be read yet, and `ready` knows nothing. */
  isAdopted(): boolean {
    return this.#keys.isAdopted();
  }

  /** No key, no path: true while both directions are in the kernel and the policies are. */
  ready(node: NodeId): boolean {
    return this.guardFailure() === undefined && this.#keys.ready(node);
  }

  /** Where its packets go, while it is ready. */
  vtepOf(node: NodeId): Ip | undefined {
    return this.guardFailure() === undefined ? this.#keys.vtepOf(node) : undefined;
  }

  /** Called with a peer whose `ready` has changed. */
  onPath(listener: (node: NodeId) => void): void {
    this.#pathListener = listener;
  }

  /**
   * Called when the policies cannot be put back, with the reason: the class's devices must go down. And
   * with undefined when they stand again.
   */
  onGuard(listener: (failure: Failure | undefined) => void): void {
    this.#guardListener = listener;
  }

  guardFailure(): Failure | undefined {
    return this.#guards.failure();
  }

  /** New keys with one peer or all, without a packet lost. */
  rotate(node?: NodeId): void {
    this.#carryOut(this.#keys.rotate(node, this.#nowMs()));
  }

  status(): PeerStatus[] {
    return this.#keys.status();
  }

  counters(): Readonly<KeyExchangeCounters> {
    return this.#keys.counters;
  }

  /** The periodic comparison, now. */
  check(): void {
    this.#readSoon(0);
    this.#guards.dirty();
  }

  /** The kernel goes on with the keys it has. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#reading);
    this.#work.length = 0;
    await this.#guards.stop();
    await this.#working;
  }

  #nowMs(): number {
    return this.#modules.clock.nowMs();
  }

  #carryOut(outputs: readonly KeyOutput[]): void {
    if (this.#stopped) return;
    for (const output of outputs) this.#output(output);
    this.#reschedule();
  }

  #output(output: KeyOutput): void {
    switch (output.kind) {
      case "put":
        return this.#step(output.id, saText(output.sa), () =>
          this.#modules.kernel.put(output.sa, output.key),
        );
      case "remove":
        return this.#step(output.id, output.sas.map(saText).join(", "), () =>
          this.#modules.kernel.remove(output.sas),
        );
      case "request":
        return void this.#request(output);
      case "answer":
        this.#waiting.get(output.id)?.(output.bytes);
        this.#waiting.delete(output.id);
        return;
      case "path":
        this.#modules.log.info(
          { node: output.node, ready: output.ready },
          "the keys of a pair are there, or no longer",
        );
        this.#pathListener(output.node);
    }
  }

  #step(id: number, what: string, write: () => Promise<void>): void {
    this.#queue(async () => {
      try {
        await write();
      } catch (error) {
        this.#modules.log.warn(
          { err: error, what },
          "the kernel refused a step of IPsec's keys; it is tried again or keys are agreed anew",
        );
        return this.#carryOut(this.#keys.failed(id, this.#nowMs()));
      }
      this.#carryOut(this.#keys.done(id, this.#nowMs()));
    });
  }

  async #request({ id, to, bytes, timeoutMs }: KeyOutput & { kind: "request" }): Promise<void> {
    let answer: Uint8Array;
    try {
      answer = await this.#modules.channel.request(to, bytes, timeoutMs);
    } catch (error) {
      this.#modules.log.debug(
        { err: error, node: to },
        "a host did not answer a question about keys; it is asked again",
      );
      return this.#carryOut(this.#keys.requestFailed(id, this.#nowMs()));
    }
    this.#carryOut(this.#keys.answered(id, answer, this.#nowMs()));
  }

  #serve(from: NodeId, bytes: Uint8Array): Promise<Uint8Array> {
    if (this.#stopped || this.#waiting.size >= MAX_WAITING)
      return Promise.reject(new Error("no questions about keys are taken now"));
    const id = ++this.#lastRequest;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#carryOut(this.#keys.requested(id, from, bytes, this.#nowMs()));
    });
  }

  #queue(work: () => Promise<void>): void {
    this.#work.push(work);
    this.#working ??= this.#run();
  }

  async #run(): Promise<void> {
    for (let work = this.#work.shift(); work !== undefined; work = this.#work.shift()) await work();
    this.#working = undefined;
  }

  /** Sooner, if a reading is already planned for later. */
  #readSoon(ms: number): void {
    if (this.#stopped) return;
    clearTimeout(this.#reading);
    this.#reading = setTimeout(() => {
      this.#queue(() => this.#read());
    }, ms).unref();
  }

  async #read(): Promise<void> {
    try {
      const { kernel } = this.#modules;
      this.#carryOut(this.#keys.held(await kernel.list(), this.#nowMs(), this.#leaves()));
      await this.#leaveElsewhere();
    } catch (error) {
      this.#modules.log.warn({ err: error }, "the IPsec SAs could not be read; read again");
    }
    this.#readSoon(this.#options.readPeriodMs);
    this.#guards.dirty();
  }

  /** Once: another address is another process. The new keys are there before the old policies go. */
  async #leaveElsewhere(): Promise<void> {
    if (this.#leftElsewhere || !this.#leaves() || !this.#keys.isSettled(this.#nowMs())) return;
    await this.#modules.kernel.removeElsewhere();
    this.#leftElsewhere = true;
  }

  #leaves(): boolean {
    return this.#options.leaves?.() !== false;
  }

  async #guard(): Promise<void> {
    const { kernel, log } = this.#modules;
    if (await kernel.verifyPolicies()) return;
    log.warn({}, "the IPsec policies were changed by somebody else and are put back");
    await kernel.setPolicies();
  }

  #guarded(failure: Failure | undefined): void {
    if (failure !== undefined)
      this.#modules.log.error(
        { ...failure },
        "the IPsec policies are missing; IPsec networks are down until they stand",
      );
    this.#guardListener(failure);
    for (const { node } of this.#keys.status()) this.#pathListener(node);
  }

  /** Once for all that happens in one turn. */
  #reschedule(): void {
    if (this.#rescheduling) return;
    this.#rescheduling = true;
    setImmediate(() => {
      this.#rescheduling = false;
      const nextMs = this.#keys.nextMs();
      if (this.#stopped || nextMs === this.#timerAtMs) return;
      clearTimeout(this.#timer);
      this.#timerAtMs = nextMs;
      if (nextMs === Infinity) return;
      // A timer holds at most 2^31 ms (setTimeout).
      const wait = Math.min(Math.max(0, nextMs - this.#nowMs()), 2 ** 31 - 1);
      this.#timer = setTimeout(() => {
        this.#timerAtMs = Infinity;
        this.#carryOut(this.#keys.tick(this.#nowMs()));
      }, Math.ceil(wait)).unref();
    });
  }
}
