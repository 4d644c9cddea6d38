import { setTimeout as delay } from "node:timers/promises";
import { asFailure, type Failure, OverlayError } from "../shared/errors.ts";
import type { Log } from "../shared/ports.ts";
import {
  BORN,
  isWorthWaiting,
  type Life,
  type LifeEvent,
  type MembershipAfter,
  nextLife,
  notJoined,
  whyNoMember,
} from "./core/life.ts";
import type { ViewsWithdrawn } from "./docker/withdraw-views.ts";

/** What an end did, see docker/withdraw-views.ts. */
export interface Ended extends ViewsWithdrawn {
  /** The cluster had removed the host before. */
  readonly removed?: boolean;
}

/** A member's agent, as its life needs it. */
export interface Living {
  /** @throws why it cannot: what it began is undone by `stop`. */
  start(): Promise<void>;
  /** Works beside Docker's calls, from when they are answered. */
  serve(): void;
  /** No more: what is under way has ended. */
  endServing(): Promise<void>;
  /** Names of networks with containers of this host, which an end would cut off. */
  busy(): Promise<readonly string[]>;
  /** Its part of an end: the engine's views go, and the others are told. What stays on the engine is said. */
  withdraw(): Promise<Ended>;
  /** `names`: who answers for them until there is an agent again. */
  stop(names: "handOver" | "letGo"): Promise<void>;
}

/** A host's membership on disk. */
export interface MembershipOnDisk<Member> {
  /** What the files say; undefined: in no cluster. @throws why they cannot be used */
  read(): Promise<Member | undefined>;
  /** The files say that this host is in a cluster. */
  isThere(): boolean;
  forget(): void;
}

/** What is ours in kernel and engine, as it is found without an agent. */
export interface Remains {
  /** Names of networks whose ports in the kernel are containers'. @throws who cannot be asked may have some */
  busy(): Promise<readonly string[]>;
  /** The engine's views go. */
  withdraw(): Promise<Ended>;
  /**
   * Before the views go: what their containers may not reach by another way stays so. True: an end before this one
   * left such containers.
   */
  hold(): Promise<boolean>;
  /**
   * Nothing of ours stays in the kernel, but what was held where containers run on.
   * @throws what stays, and why
   */
  clear(containers: "run on" | "are none"): Promise<void>;
}

export interface LifecycleModules<Member, A extends Living> {
  readonly membership: MembershipOnDisk<Member>;
  /**
   * `cannotRun`: called when it is of no use as it stands. @throws why there can be none: nothing of it is left then.
   */
  readonly make: (member: Member, cannotRun: (failure: Failure) => void) => A;
  readonly remains: Remains;
  /** Told of each state when it is reached. */
  readonly became: (life: Life) => void;
  /** No next process is to come. */
  readonly isLast: () => Promise<boolean>;
  readonly log: Log;
}

export interface LifecycleTimes {
  readonly lookMs: number;
  readonly retryMs: number;
}

export const DEFAULT_LIFECYCLE_TIMES: LifecycleTimes = { lookMs: 100, retryMs: 2000 };

/**
 * Does what the state of this host's life asks for, one state after another (core/life.ts): commands and
 * signals only say what is to come.
 */
export class Lifecycle<Member, A extends Living> {
  readonly #modules: LifecycleModules<Member, A>;
  readonly #times: LifecycleTimes;
  #life: Life = BORN;
  /** From when it is made until it is stopped. */
  #agent: A | undefined;
  /** Of `leave` and `withdraw`: heard when the state can end. */
  #toEnd: MembershipAfter | undefined;
  #cannotRun: Failure | undefined;
  /** How the last end went. */
  #ended: { readonly report: Ended } | { readonly error: unknown } | undefined;
  /** Something is to be looked at: a wait is cut short. */
  #wake = new AbortController();
  #changed = Promise.withResolvers<void>();

  constructor(modules: LifecycleModules<Member, A>, times = DEFAULT_LIFECYCLE_TIMES) {
    this.#modules = modules;
    this.#times = times;
  }

  life(): Life {
    return this.#life;
  }

  /** Of a host that takes part. */
  agent(): A | undefined {
    return this.#life.state === "member" ? this.#agent : undefined;
  }

  /** The same from when it is made, also of one that does not get to its end with starting. */
  made(): A | undefined {
    return this.#agent;
  }

  /** Waits for one that is starting. @throws why there is none */
  async member(): Promise<A> {
    while (isWorthWaiting(this.#life)) await this.#changed.promise;
    // Called before the process was told to end: it is answered by an agent that still works.
    const working = this.#life.state === "stopping" ? this.#agent : this.agent();
    if (working !== undefined) return working;
    throw new OverlayError(whyNoMember(this.#life) ?? notJoined().toFailure());
  }

  /**
   * For what Docker gives back: also one that is ending, which makes Docker do so; undefined: nobody is left to
   * be told. @throws as `member`
   */
  async working(): Promise<A | undefined> {
    return this.#life.state === "ending" ? this.#agent : this.member();
  }

  /**
   * `leave` and `withdraw`; resolves when nothing is left in the kernel. @throws CONFLICT while containers use
   * networks, unless by force; NOT_JOINED; NETLINK: what is left
   */
  async end(membershipIs: MembershipAfter, { force }: { force: boolean }): Promise<Ended> {
    while (this.#isEnding()) await this.#changed.promise;
    const { state } = this.#life;
    if (state === "withdrawn" && membershipIs === "kept") return { cutOff: [], stays: [] };
    if (state === "not-joined" || state === "stopping")
      throw new OverlayError(whyNoMember(this.#life)!);
    const busy = force ? [] : await (this.agent()?.busy() ?? this.#modules.remains.busy());
    if (busy.length > 0) throw inUse(busy);
    this.#toEnd = membershipIs;
    this.#ended = undefined;
    this.#wake.abort();
    do await this.#changed.promise;
    while (this.#isEnding());
    const ended = this.#ended as { report: Ended } | { error: unknown } | undefined;
    if (ended === undefined) throw new OverlayError(whyNoMember({ state: "stopping" })!);
    if ("error" in ended) throw ended.error;
    return ended.report;
  }

  /** A member cannot take part any more: its agent is stopped, what stands stays, and it is tried again. */
  cannotRun(failure: Failure): void {
    if (this.#life.state !== "member") return;
    this.#cannotRun = failure;
    this.#wake.abort();
  }

  /** Until `signal` aborts. `drain`: Docker's calls under way are answered then, and no others come. */
  async run(signal: AbortSignal, drain: () => Promise<void>): Promise<void> {
    signal.addEventListener("abort", () => this.#wake.abort(), { once: true });
    this.#modules.became(this.#life);
    while (this.#life.state !== "stopping") {
      const event: LifeEvent = signal.aborted ? { kind: "stop" } : await this.#live(signal);
      await this.#become(
        signal.aborted && event.kind !== "ended" ? { kind: "stop" } : event,
        drain,
      );
    }
  }

  async #become(event: LifeEvent, drain: () => Promise<void>): Promise<void> {
    const before = this.#life;
    this.#life = nextLife(before, event);
    if (this.#life === before) return;
    if (this.#life.state === "stopping") await this.#stopping(drain);
    // Another one is made.
    else if (this.#life.state === "cannot-run") await this.#end("handOver");
    if (this.#life.state === "member") this.#agent?.serve();
    this.#modules.became(this.#life);
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers<void>();
    resolve();
  }

  /** What the state asks for, and what happened then. */
  async #live(signal: AbortSignal): Promise<LifeEvent> {
    this.#wake = new AbortController();
    if (signal.aborted) return { kind: "stop" };
    switch (this.#life.state) {
      case "not-joined":
        while (!signal.aborted && !this.#modules.membership.isThere())
          await this.#wait(this.#times.lookMs);
        return { kind: "joined" };
      case "starting":
        return this.#takeEnd() ?? this.#start();
      case "cannot-run":
        await this.#wait(this.#times.retryMs);
        return this.#takeEnd() ?? { kind: "try-again" };
      case "member":
      case "withdrawn":
        await this.#wait(undefined);
        return this.#takeEnd() ?? this.#takeCannotRun() ?? { kind: "stop" };
      case "ending":
        return this.#ending(this.#life.membershipIs);
      case "stopping":
        return { kind: "stop" };
    }
  }

  async #start(): Promise<LifeEvent> {
    try {
      const member = await this.#modules.membership.read();
      if (member === undefined) return { kind: "no-membership" };
      this.#agent = this.#modules.make(member, (failure) => this.cannotRun(failure));
      await this.#agent.start();
      return { kind: "started" };
    } catch (error) {
      await this.#end("letGo");
      return { kind: "cannot-run", failure: asFailure(error) };
    }
  }

  async #ending(membershipIs: MembershipAfter): Promise<LifeEvent> {
    const { remains, membership } = this.#modules;
    try {
      const heldBefore = await remains.hold();
      // By the kernel, while their ports are there: an engine that does not answer names nobody who is cut off.
      const busy = await remains.busy().catch(() => undefined);
      const report = await (this.#agent ?? remains).withdraw();
      // Loops end before what they mend is taken away: none of them may put it back.
      await this.#end("letGo");
      const runOn = heldBefore || busy?.length !== 0 || report.cutOff.length > 0;
      await remains.clear(runOn ? "run on" : "are none");
      // Last: a crash before leaves a member, which comes up again.
      if (membershipIs === "forgotten") membership.forget();
      this.#ended = { report };
      return { kind: "ended" };
    } catch (error) {
      this.#ended = { error };
      await this.#end("letGo");
      return { kind: "not-ended" };
    }
  }

  async #stopping(drain: () => Promise<void>): Promise<void> {
    // Before the calls: it may wait for one that the engine makes for it.
    await this.#agent?.endServing();
    // By an agent that still works.
    await drain();
    if (this.#agent !== undefined)
      await this.#end((await this.#modules.isLast()) ? "letGo" : "handOver");
  }

  async #end(names: "handOver" | "letGo"): Promise<void> {
    const agent = this.#agent;
    this.#agent = undefined;
    await agent?.stop(names).catch((error: unknown) => {
      // Whatever comes next is not kept from coming.
      this.#modules.log.error({ err: error }, "the agent did not stop cleanly");
    });
  }

  #takeEnd(): LifeEvent | undefined {
    const membershipIs = this.#toEnd;
    this.#toEnd = undefined;
    return membershipIs === undefined ? undefined : { kind: "end", membershipIs };
  }

  #takeCannotRun(): LifeEvent | undefined {
    const failure = this.#cannotRun;
    this.#cannotRun = undefined;
    return failure === undefined ? undefined : { kind: "cannot-run", failure };
  }

  #isEnding(): boolean {
    const { state } = this.#life;
    return state === "ending" || (this.#toEnd !== undefined && state !== "stopping");
  }

  /** Until something is to be looked at, or `ms` are over. */
  async #wait(ms: number | undefined): Promise<void> {
    const { signal } = this.#wake;
    if (signal.aborted || this.#toEnd !== undefined || this.#cannotRun !== undefined) return;
    if (ms !== undefined) await delay(ms, undefined, { signal }).catch(() => {});
    else
      await new Promise<void>((resolve) =>
        signal.addEventListener("abort", () => resolve(), { once: true }),
      );
  }
}

/** Who would be cut off. */
export function inUse(networks: readonly string[]): OverlayError {
  return new OverlayError({
    code: "CONFLICT",
    message: `containers here use ${networks.join(", ")}`,
    next: "stop them, or give --force to cut them off",
  });
}
