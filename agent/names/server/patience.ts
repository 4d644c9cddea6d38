import { letDockerAnswer } from "./transparent.ts";

/** One number that two threads agree on: who decides what becomes of the questions that wait. */
export const STATES = { waiting: 0, lettingGo: 1, letGo: 2, takenOver: 3 } as const;

export interface Patience {
  readonly sockets: readonly number[];
  readonly state: Int32Array;
  readonly patienceMs: number;
}

/** Unless somebody took over, or gave up already. In any thread. */
export function giveUp({ sockets, state }: Omit<Patience, "patienceMs">): void {
  const { waiting, lettingGo, letGo } = STATES;
  if (Atomics.compareExchange(state, 0, waiting, lettingGo) !== waiting) return;
  for (const fd of sockets) letDockerAnswer(fd);
  Atomics.store(state, 0, letGo);
  Atomics.notify(state, 0);
}

/** Blocks its thread until somebody takes over, or there is no more patience. */
export function bePatient(patience: Patience): void {
  const { state, patienceMs } = patience;
  if (Atomics.wait(state, 0, STATES.waiting, patienceMs) === "timed-out") giveUp(patience);
}

/** After this nobody lets go any more. False: somebody did. */
export function takeOver({ state }: Pick<Patience, "state">): boolean {
  const { waiting, lettingGo, takenOver } = STATES;
  const before = Atomics.compareExchange(state, 0, waiting, takenOver);
  Atomics.notify(state, 0);
  if (before === lettingGo) Atomics.wait(state, 0, lettingGo);
  return before === waiting || before === takenOver;
}
