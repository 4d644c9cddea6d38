import { OverlayError, type Failure } from "../../shared/errors.ts";
import type { NetworkId } from "../../shared/ids.ts";
import { Histogram, type HistogramCounts } from "../../shared/histogram.ts";
import type { Log, Timers } from "../../shared/ports.ts";
import { driftOf, HeldNetwork } from "../core/data-plane/held-network.ts";
import type { ActualNetwork, Step, Wanted } from "../core/data-plane/kernel-state.ts";
import { sameWanted } from "../core/data-plane/same-wanted.ts";
import type { Kernel } from "./port.ts";
import { PassLoop, type PassLoopTimes } from "../../shared/node/pass-loop.ts";

export interface ReconcilerModules {
  readonly kernel: Pick<Kernel, "read" | "apply">;
  readonly want: (network: NetworkId) => Wanted;
  readonly plan: (held: HeldNetwork, wanted: Wanted) => readonly Step[];
  /**
   * What `want` keeps from one time to the next is compared with what follows from the whole.
   * @returns whether it was the same; from then on it is
   */
  readonly rightWanted: (network: NetworkId) => boolean;
  /** A network's pass failed, or succeeded after one that did. */
  readonly failureChanged?: () => void;
  readonly timers?: Timers;
  readonly log: Log;
}

export const DEFAULT_RECONCILER_OPTIONS: PassLoopTimes = {
  coalesceMs: 5,
  retryFirstMs: 100,
  retryMostMs: 10_000,
};

/** How a network stands, for `status`. */
export interface PassStatus {
  readonly passes: number;
  readonly stepsApplied: number;
  /** Forwarding entries that were dumped, and those that were written. */
  readonly entriesRead: number;
  /** Of those dumped: by the whole comparisons, one a minute; the rest at a start, after others' changes, after failures. */
  readonly entriesCompared: number;
  readonly entriesWritten: number;
  /**
   * Whole comparisons that found something else than the passes before had left, and no event had told of it; or that
   * what was wanted, changed by what changed, was not what the whole says.
   */
  readonly drifts: number;
  readonly failures: number;
  /** Of the last pass; undefined when it succeeded. */
  readonly failure: Failure | undefined;
}

type Counts = { -readonly [name in keyof Omit<PassStatus, "failure">]: number };

interface Entry {
  readonly loop: PassLoop;
  readonly counts: Counts;
  /** What the last pass left. Undefined: the next one reads the kernel. */
  held: HeldNetwork | undefined;
  /** By the last pass. */
  wanted: Wanted | undefined;
  /** The next pass reads the kernel and compares. */
  isToBeChecked: boolean;
  /** How often somebody else has changed something in the kernel. */
  changesOutside: number;
}

/**
 * Level-triggered: events only mark a network dirty; one pass a network at a time recomputes what is wanted and
 * applies what differs from what the kernel holds. The kernel is read at first, after a change that was not ours,
 * after a failure and after devices were made; else what passes left is known. `check` compares that with the
 * kernel. A failed pass leaves the network dirty and is retried with backoff; one network's failure stops no other.
 */
export class Reconciler {
  readonly #times: PassLoopTimes;
  readonly #modules: ReconcilerModules;
  readonly #entries = new Map<NetworkId, Entry>();
  readonly #took = new Histogram();
  #stopped = false;

  constructor(times: PassLoopTimes, modules: ReconcilerModules) {
    this.#times = times;
    this.#modules = modules;
  }

  /** The first event runs at once; what follows is coalesced. */
  dirty(network: NetworkId): void {
    if (!this.#stopped) this.#entry(network).loop.dirty();
  }

  /**
   * What is wanted may be another: a pass is made if it is. Names and health of containers are nothing to a kernel.
   * Many documents that come at once are looked at once.
   * @returns false: what the last pass left is what is wanted
   */
  changed(network: NetworkId): boolean {
    if (this.#stopped) return true;
    const { loop, held, wanted } = this.#entry(network);
    if (loop.isDue()) return true;
    const isKnown = held !== undefined && wanted !== undefined;
    if (isKnown && sameWanted(wanted, this.#modules.want(network))) return false;
    this.dirty(network);
    return true;
  }

  /** Somebody else has changed something of the network in the kernel. */
  changedOutside(network: NetworkId): void {
    if (this.#stopped) return;
    const entry = this.#entry(network);
    entry.changesOutside++;
    entry.held = undefined;
    entry.loop.dirty();
  }

  /** Not every change is told (an entry that is replaced, a setting): the kernel is read and compared. */
  check(network: NetworkId): void {
    if (this.#stopped) return;
    const entry = this.#entry(network);
    entry.isToBeChecked = true;
    entry.loop.dirty();
  }

  /**
   * Resolves after a pass that began after this call; rejects with that pass's failure (which is
   * retried all the same). For Docker's Join: the container starts with its network in place.
   */
  async settle(network: NetworkId): Promise<void> {
    if (this.#stopped)
      throw new OverlayError({ code: "INTERNAL", message: "the agent is stopping" });
    await this.#entry(network).loop.done();
  }

  status(network: NetworkId): PassStatus | undefined {
    const entry = this.#entries.get(network);
    return entry && { ...entry.counts, failure: entry.loop.failure() };
  }

  /** Of all networks since the start. */
  totals(): Omit<PassStatus, "failure"> {
    const sum = newCounts();
    for (const { counts } of this.#entries.values())
      for (const name of Object.keys(sum) as (keyof typeof sum)[]) sum[name] += counts[name];
    return sum;
  }

  /** How long passes took, from the first question to the kernel to its last answer, also of those that failed. */
  took(): HistogramCounts {
    return this.#took.counts();
  }

  /** Networks whose last pass failed. */
  failures(): { network: NetworkId; failure: Failure }[] {
    return [...this.#entries].flatMap(([network, { loop }]) => {
      const failure = loop.failure();
      return failure === undefined ? [] : [{ network, failure }];
    });
  }

  /** Since when the oldest pass is under way; a network that waits for its next has none. */
  passSinceMs(): number | undefined {
    const since = [...this.#entries.values()].flatMap(({ loop }) => loop.passSinceMs() ?? []);
    return since.length === 0 ? undefined : Math.min(...since);
  }

  /** Ends after the passes under way; the kernel stays as it is. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all([...this.#entries.values()].map(({ loop }) => loop.stop()));
  }

  #entry(network: NetworkId): Entry {
    const known = this.#entries.get(network);
    if (known !== undefined) return known;
    const loop = new PassLoop(
      () => this.#pass(network, entry),
      (failure) => this.#failureChanged(network, failure),
      this.#times,
      this.#modules.timers,
    );
    const entry: Entry = {
      loop,
      counts: newCounts(),
      held: undefined,
      wanted: undefined,
      isToBeChecked: false,
      changesOutside: 0,
    };
    this.#entries.set(network, entry);
    return entry;
  }

  async #pass(network: NetworkId, entry: Entry): Promise<void> {
    const { kernel, want, plan, log } = this.#modules;
    const { counts, changesOutside } = entry;
    counts.passes++;
    const startMs = performance.now();
    try {
      const held = await this.#held(network, entry);
      // Until the steps are carried out nobody knows what is there.
      entry.held = undefined;
      // Asked after the read: a change made during it is seen now, not a pass later.
      const wanted = want(network);
      entry.wanted = wanted;
      const steps = plan(held, wanted);
      if (steps.length > 0) {
        await kernel.apply(network, steps);
        counts.stepsApplied += steps.length;
        for (const step of steps) {
          held.carriedOut(step);
          counts.entriesWritten += entriesWritten(step);
        }
        log.info({ network, applied: steps.length }, "network reconciled");
      }
      held.reached(wanted);
      // A device that was made again has lost entries that no step was to remove.
      const isKnown = !steps.some(({ kind }) => kind === "extend");
      if (isKnown && entry.changesOutside === changesOutside) entry.held = held;
    } catch (error) {
      counts.failures++;
      throw error;
    } finally {
      this.#took.add(performance.now() - startMs);
    }
  }

  async #held(network: NetworkId, entry: Entry): Promise<HeldNetwork> {
    const { kernel, rightWanted, log } = this.#modules;
    const { held: believed, isToBeChecked, counts } = entry;
    if (believed !== undefined && !isToBeChecked) return believed;
    entry.isToBeChecked = false;
    if (isToBeChecked && !rightWanted(network)) {
      counts.drifts++;
      log.error({ network }, "what was wanted of a network was not what its documents say; mended");
    }
    const actual = await kernel.read(network);
    const read = entriesRead(actual);
    counts.entriesRead += read;
    if (believed !== undefined) counts.entriesCompared += read;
    const found = new HeldNetwork(actual);
    const drift = believed === undefined ? [] : driftOf(believed, found);
    if (drift.length > 0) {
      counts.drifts++;
      log.warn({ network, drift }, "the kernel does not hold what was left there; mended");
    }
    return found;
  }

  #failureChanged(network: NetworkId, failure: Failure | undefined): void {
    const { log, failureChanged } = this.#modules;
    if (failure !== undefined) {
      const { op, errno, message } = failure;
      log.warn({ network, op, errno, message }, "reconcile failed; tried again");
    }
    failureChanged?.();
  }
}

function newCounts(): Counts {
  return {
    passes: 0,
    stepsApplied: 0,
    entriesRead: 0,
    entriesCompared: 0,
    entriesWritten: 0,
    drifts: 0,
    failures: 0,
  };
}

function entriesRead({ vxlanFdb, bridgeFdb, neighbours, flood }: ActualNetwork): number {
  return vxlanFdb.length + bridgeFdb.length + neighbours.length + flood.length;
}

/** Added, changed and removed ones. */
function entriesWritten(step: Step): number {
  switch (step.kind) {
    case "putRemotes":
      return step.remotes.reduce((sum, { ips }) => sum + 1 + ips.length, 0);
    case "putFlood":
    case "removeFlood":
      return step.vteps.length;
    case "removeFdb":
      return step.entries.length;
    case "removeNeighbours":
      return step.ips.length;
    case "extend":
    case "putPort":
    case "removePort":
    case "retract":
      return 0;
  }
}
