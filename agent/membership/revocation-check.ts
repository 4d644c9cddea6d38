import { type Failure, OverlayError } from "../../shared/errors.ts";
import type { Log } from "../../shared/ports.ts";

const LOOK_MS = 5000;
/** The answer is not another a moment later, and a host that is down is missed by all that want it. */
const ASK_MS = 60_000;

const REMOVED: Failure = {
  code: "NOT_JOINED",
  message: "this host was removed from the cluster: the other hosts and the controller refuse it",
  next: "`overlay-ts leave --force` here, which also makes its key anew, and `overlay-ts join` with a token of `overlay-ts token create`",
};

export interface RevocationCheckModules {
  /** Some peer that should be connected is not. */
  readonly misses: () => boolean;
  /** The state that this host holds revokes it: who was connected then may have heard so. */
  readonly revoked: () => boolean;
  /** Asks the controller for the newest state. @throws UNAUTHENTICATED: for it this host is no member. */
  readonly ask: () => Promise<void>;
  readonly changed: () => void;
  readonly log: Log;
}

/**
 * Whether this host is a member still. Who was removed while it was away is refused by all peers, and told
 * nothing on the mesh: so who misses one asks the controller, whose key is the one in the state it holds.
 */
export class RevocationCheck {
  readonly #modules: RevocationCheckModules;
  #timer: NodeJS.Timeout | undefined;
  #asking: Promise<void> | undefined;
  #missed = false;
  #askedMs = -Infinity;
  #refused = false;

  constructor(modules: RevocationCheckModules) {
    this.#modules = modules;
  }

  start(): void {
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#asking;
  }

  /** Why it takes part in nothing, and what to do; undefined: it is one, as far as is known. */
  failure(): Failure | undefined {
    return this.#refused || this.#modules.revoked() ? REMOVED : undefined;
  }

  #look(): void {
    const before = this.#missed;
    this.#missed = this.#modules.misses();
    if (!this.#missed) this.#set(false);
    // Missed twice: the first time it may be coming.
    const due = performance.now() - this.#askedMs >= ASK_MS;
    if (!this.#missed || !before || !due || this.#asking !== undefined) return;
    this.#askedMs = performance.now();
    this.#asking = this.#ask();
  }

  async #ask(): Promise<void> {
    try {
      await this.#modules.ask();
      this.#set(false);
    } catch (error) {
      // Anything else says nothing about us: nobody answers, or decides.
      if (error instanceof OverlayError && error.code === "UNAUTHENTICATED") this.#set(true);
      else
        this.#modules.log.debug(
          { err: error },
          "could not ask the controller whether this host is a member; asked again",
        );
    }
    this.#asking = undefined;
  }

  #set(refused: boolean): void {
    if (this.#refused === refused) return;
    this.#refused = refused;
    if (refused) this.#modules.log.error({ ...REMOVED }, "removed from the cluster");
    this.#modules.changed();
  }
}
