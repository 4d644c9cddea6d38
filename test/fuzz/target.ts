import { OverlayError } from "../../shared/errors.ts";
import type { Random } from "../../shared/ports.ts";

/** One decoder and what must hold of it, whatever it is given. */
export interface Target {
  /** What reads the input, as a person would look it up. */
  readonly decoder: string;
  /** Valid inputs, beside those of `corpus/<target>/`. */
  readonly recorded: readonly Uint8Array[];
  /** How an input is taken apart for mutations of its fields; absent: bytes only. */
  readonly form?: "cbor" | "json";
  /** Where the tree begins; absent: at the first byte. */
  readonly treeAt?: (input: Uint8Array) => number;
  /**
   * Makes what was mutated valid again (signatures, seals, lengths): else nothing behind the check of a
   * signature would ever be reached. Left away for some inputs.
   */
  readonly dress?: (input: Uint8Array, random: Random) => Uint8Array;
  /**
   * Undefined: taken; else why it was refused, of few different texts.
   * @throws a finding: whatever is no refusal, and a broken invariant (`Finding`).
   */
  readonly feed: (input: Uint8Array) => Promise<string | undefined> | string | undefined;
  readonly close?: () => Promise<void>;
}

/** Made for each run, in the thread of the run. */
export type Targets = Readonly<Record<string, () => Promise<Target>>>;

/** What must hold does not. */
export class Finding extends Error {}

export function hold(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Finding(what);
}

/** A refusal of ours is an OverlayError with a code that means the input: anything else is a finding. */
export function refusalOf(error: unknown, { answered = false } = {}): string {
  // Of somebody else's answer: it may say that something failed inside of it.
  if (!(error instanceof OverlayError) || (error.code === "INTERNAL" && !answered)) throw error;
  return error.code;
}

export function refusing(take: () => void): string | undefined {
  try {
    take();
    return undefined;
  } catch (error) {
    return refusalOf(error);
  }
}
