import { letDockerAnswer } from "./transparent.ts";

/** One number that two threads agree on: who decides what becomes of the questions that wait. */
export const STATES = { waiting: 0, lettingGo: 1, letGo: 2, served: 3 } as const;

export interface Patience {
  readonly sockets: readonly number[];
  readonly state: Int32Array;
  readonly patienceMs: number;
}

/** Unless somebody serves, or did so already. In any thread. */
export function giveUp({ sockets, state }: Omit<Patience, "patienceMs">): void {
  const { waiting, lettingGo, letGo } = STATES;
  if (Atomics.compareExchange(state, 0, waiting, lettingGo) !== waiting) return;
  for (const fd of sockets) letDockerAnswer(fd);
  Atomics.store(state, 0, letGo);
  Atomics.notify(state, 0);
}

/** Blocks its thread until somebody serves, or for as long as there is patience. */
export function beingPatient(patience: Patience): void {
  const { state, patienceMs } = patience;
  if (Atomics.wait(state, 0, STATES.waiting, patienceMs) === "timed-out") giveUp(patience);
}

/** Nobody lets go any more after this. False: somebody did. */
export function serve({ state }: Pick<Patience, "state">): boolean {
  const { waiting, lettingGo, served } = STATES;
  const before = Atomics.compareExchange(state, 0, waiting, served);
  Atomics.notify(state, 0);
  if (before === lettingGo) Atomics.wait(state, 0, lettingGo);
  return before === waiting || before === served;
}
