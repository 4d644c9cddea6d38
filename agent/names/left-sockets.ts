import { closeSync } from "node:fs";
import type { DescriptorStore } from "../../shared/node/descriptor-store.ts";
import type { WaitingQuestions } from "./server/waiting-questions.ts";

/**
 * Sockets in containers that an agent before this process left, and the questions in them: the first agent
 * of this process takes them over; without one Docker's resolver answers.
 */
export class LeftSockets {
  readonly #keeper: DescriptorStore;
  readonly #waiting: WaitingQuestions | undefined;
  #held: ReadonlyMap<string, number>;

  /** `waiting`: undefined when none came back. */
  constructor(keeper: DescriptorStore, waiting: WaitingQuestions | undefined) {
    this.#keeper = keeper;
    this.#waiting = waiting;
    this.#held = keeper.kept;
  }

  /** From now on who takes them decides whether questions in them are answered. */
  take(): { adopted: ReadonlyMap<string, number>; patienceMs: number | undefined } {
    const adopted = this.#held;
    this.#held = new Map();
    return { adopted, patienceMs: this.#waiting?.takeOver() };
  }

  served(): void {
    this.#waiting?.served();
  }

  /** What they hold, nobody of us will answer. */
  letGo(): void {
    for (const [name, fd] of this.take().adopted) {
      this.#keeper.release(name);
      closeSync(fd);
    }
  }
}
