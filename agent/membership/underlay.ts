import type { ClusterState, NodeRecord } from "../../shared/cluster-state.ts";
import { asFailure, type Failure, OverlayError } from "../../shared/errors.ts";
import type { NetworkId } from "../../shared/ids.ts";
import { type Family, familyOf, type Ip } from "../../shared/ip.ts";
import { tableFull } from "../../shared/node/neighbour-table.ts";
import type { Clock, Log } from "../../shared/ports.ts";
import { TokenBucket } from "../../shared/token-bucket.ts";
import { sameUnderlay, type UnderlayFacts } from "../../shared/underlay.ts";
import type { ControllerLink } from "./controller-link.ts";
import { narrowUnderlay, tellable, untold } from "../core/liveness/underlay.ts";
import { backedOff, RetriedWork } from "../../shared/node/retried-work.ts";

/** Interfaces and routes of this machine, as its kernel reports them. */
export interface HostLinks {
  /** With the MTU of the interface that has the address; undefined: none has it. */
  read(address: Ip): Promise<UnderlayFacts | undefined>;
  /** Links, addresses or routes may be others. */
  onChange(listener: () => void): void;
  /** How often the machine's table of neighbours was full; see shared/node/neighbour-table.ts. */
  timesTableWasFull(family: Family): number | undefined;
  close(): void;
}

export interface UnderlayModules {
  readonly links: HostLinks;
  readonly state: () => ClusterState | undefined;
  /** This host, as the controller signed it. */
  readonly own: () => NodeRecord | undefined;
  /** Networks with containers here, or that this host is exposed in. */
  readonly used: () => ReadonlySet<NetworkId>;
  readonly controller: Pick<ControllerLink, "request">;
  /** A failure says something else. */
  readonly changed: () => void;
  readonly clock: Pick<Clock, "nowMs">;
  readonly log: Log;
}

/** Changes come in several events: read after a pause, and reported when the next reading is the same. */
const SETTLE_MS = 2000;
const RETRY_MOST_MS = 60_000;
/** A table that was full is said until two looks of the periodic ones found that it was not again. */
const FULL_MS = 150_000;
/** Each time is a state that all hosts get: an interface that comes and goes costs them no more than this. */
const TELLS_AT_ONCE = 4;
const TELLS_PER_SECOND = 1 / 300;

const TOO_OFTEN: Failure = {
  code: "FULL",
  message: "it has changed too often in the last minutes",
  next: "see what changes it with `ip monitor link address route`; it is told in some minutes",
};

/**
 * Whether what carries this host's packets is still what the cluster's state says of it. Events are a hint when to
 * look; what differs is told to the controller until the state says it.
 */
export class Underlay {
  readonly #modules: UnderlayModules;
  readonly #narrow: RetriedWork;
  readonly #crowded: RetriedWork;
  readonly #telling: RetriedWork;
  readonly #tells: TokenBucket;
  /** At the last look. */
  #seen: UnderlayFacts | undefined;
  #timesFull: number | undefined;
  #fullMs = -Infinity;
  /** The last underlay that was sent to the controller. */
  #asked: UnderlayFacts | undefined;
  #next: { readonly timer: NodeJS.Timeout; readonly dueMs: number } | undefined;
  #looking: Promise<void> = Promise.resolve();
  #retryMs = SETTLE_MS;
  #stopped = false;

  constructor(modules: UnderlayModules) {
    this.#modules = modules;
    const told = (text: string) => (failure: Failure | undefined) => {
      if (failure !== undefined) modules.log.warn({ ...failure }, text);
      modules.changed();
    };
    this.#narrow = new RetriedWork(told("the underlay's MTU is too small"));
    this.#crowded = new RetriedWork(told("this machine's table of neighbours is too small"));
    this.#telling = new RetriedWork(told("the controller does not know this host's underlay"));
    this.#tells = new TokenBucket(TELLS_PER_SECOND, TELLS_AT_ONCE, modules.clock.nowMs());
  }

  start(): void {
    this.#modules.links.onChange(() => this.soon());
    this.soon();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#next?.timer);
    this.#modules.links.close();
    await this.#looking;
  }

  /** Networks here lose their large packets, or this host packets to some others. */
  failure(): Failure | undefined {
    return this.#narrow.failure() ?? this.#crowded.failure();
  }

  /** Why the cluster's state does not say what is. */
  untold(): Failure | undefined {
    return this.#telling.failure();
  }

  /** It may be another. */
  soon(): void {
    this.#lookIn(SETTLE_MS);
  }

  /** Events without end put no look off. */
  #lookIn(ms: number): void {
    const dueMs = this.#modules.clock.nowMs() + ms;
    if (this.#stopped || (this.#next !== undefined && this.#next.dueMs <= dueMs)) return;
    clearTimeout(this.#next?.timer);
    const timer = setTimeout(() => {
      this.#next = undefined;
      // After one that is under way, which may wait for the controller.
      this.#looking = this.#looking.then(() => this.#look()).catch(() => {});
    }, ms);
    this.#next = { timer, dueMs };
  }

  async #look(): Promise<void> {
    const { links, state, own, used } = this.#modules;
    const before = own();
    if (before !== undefined) this.#lookForRoom(familyOf(before.vtep));
    const found = before && (await links.read(before.behindNat ?? before.vtep));
    const current = state();
    const held = own();
    if (found === undefined || current === undefined || held === undefined) return;
    this.#narrow.went(narrowUnderlay(current, found.underlayMtuBytes, used()));
    const now = tellable(held, found);
    const isSettled = this.#seen !== undefined && sameUnderlay(this.#seen, now);
    this.#seen = now;
    if (sameUnderlay(held, now)) {
      this.#retryMs = SETTLE_MS;
      this.#telling.went(undefined);
    } else if (isSettled) await this.#tell(held, now);
    else this.soon();
  }

  #lookForRoom(family: Family): void {
    const times = this.#modules.links.timesTableWasFull(family);
    const nowMs = this.#modules.clock.nowMs();
    if (times !== undefined && times > (this.#timesFull ?? times)) this.#fullMs = nowMs;
    this.#timesFull = times;
    this.#crowded.went(nowMs - this.#fullMs < FULL_MS ? tableFull(family) : undefined);
  }

  async #tell(held: NodeRecord, facts: UnderlayFacts): Promise<void> {
    const { controller, clock, log } = this.#modules;
    try {
      const isNew = this.#asked === undefined || !sameUnderlay(this.#asked, facts);
      if (isNew && !this.#tells.take(clock.nowMs())) throw new OverlayError(TOO_OFTEN);
      this.#asked = facts;
      await controller.request({ v: 1, kind: "underlay", facts }, "done");
      const { underlayMtuBytes, ownSubnets } = facts;
      log.info(
        { underlayMtuBytes, subnets: ownSubnets.length },
        "the controller knows the underlay",
      );
      this.#retryMs = SETTLE_MS;
      this.#telling.went(undefined);
    } catch (error) {
      this.#telling.went(untold(held, facts, asFailure(error)));
      this.#retryMs = backedOff(this.#retryMs, RETRY_MOST_MS);
      this.#lookIn(this.#retryMs);
    }
  }
}
