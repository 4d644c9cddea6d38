/**
 * A state's revision is one number, and the higher wins, whoever signed it. Its upper bits are the
 * generation of the controller that may sign it, which the root key wrote into that controller's
 * certificate; its lower 32 count the changes. So whatever a controller of a later generation says is
 * newer than all that one before it can ever say.
 */
const PER_GENERATION = 2 ** 32;

/** With the changes below, still a whole number that doubles hold. */
export const MAX_GENERATION = 2 ** 20;

export function generationOf(revision: number): number {
  return Math.floor(revision / PER_GENERATION);
}

/** Goes on from one generation to the next. */
export function changesOf(revision: number): number {
  return revision % PER_GENERATION;
}

export function revisionOf(generation: number, changes: number): number {
  return generation * PER_GENERATION + changes;
}
