import type { Random } from "../../shared/ports.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { BYTE_MUTATIONS } from "./byte-mutations.ts";
import type { Target } from "./target.ts";
import { mutateTree } from "./tree-mutations.ts";

export interface Report {
  inputs: number;
  taken: number;
  /** By cause. */
  readonly refused: Record<string, number>;
  slowest: { readonly index: number; readonly ms: number; readonly bytes: number };
}

/** What an input did that none may do. */
export class FuzzFailure extends Error {
  readonly index: number;
  readonly input: Uint8Array;

  constructor(index: number, input: Uint8Array, cause: unknown) {
    super(cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause), { cause });
    this.index = index;
    this.input = input;
  }
}

/** Inputs `0` up to `inputs` of the seed. @throws FuzzFailure at the first that does what none may do */
export async function run(
  target: Target,
  corpus: readonly Uint8Array[],
  { seed, inputs }: { readonly seed: number; readonly inputs: number },
  begun: (index: number) => void = () => {},
): Promise<Report> {
  const slowest = { index: 0, ms: 0, bytes: 0 };
  const report: Report = { inputs: 0, taken: 0, refused: {}, slowest };
  for (let index = 0; index < inputs; index++) {
    begun(index);
    // Timers and what waits for the end of a turn have theirs.
    if (index % 64 === 0) await new Promise((resolve) => setImmediate(resolve));
    const input = inputAt(target, corpus, seed, index);
    const beganMs = performance.now();
    let refused: string | undefined;
    try {
      refused = await target.feed(input);
    } catch (error) {
      throw new FuzzFailure(index, input, error);
    }
    const ms = performance.now() - beganMs;
    if (ms > report.slowest.ms) report.slowest = { index, ms, bytes: input.length };
    report.inputs++;
    if (refused === undefined) report.taken++;
    else report.refused[refused] = (report.refused[refused] ?? 0) + 1;
  }
  return report;
}

/** Follows from seed and index alone: one input is found again without those before it. */
export function inputAt(
  target: Target,
  corpus: readonly Uint8Array[],
  seed: number,
  index: number,
): Uint8Array {
  const random = seededRandom(seed ^ Math.imul(index + 1, 0x9e37_79b1));
  const entry = corpus[index % corpus.length] ?? new Uint8Array();
  // First the corpus as it is.
  if (index < corpus.length) return entry;
  const mutated = random.below(16) === 0 ? entry : mutate(target, entry, corpus, random);
  if (target.dress === undefined || random.below(8) === 0) return mutated;
  const dressed = target.dress(mutated, random);
  return random.below(4) === 0 ? mutateBytes(dressed, corpus, random) : dressed;
}

function mutate(
  target: Target,
  entry: Uint8Array,
  corpus: readonly Uint8Array[],
  random: Random,
): Uint8Array {
  if (target.form === undefined || random.below(3) === 0) return mutateBytes(entry, corpus, random);
  const start = target.treeAt?.(entry) ?? 0;
  const tree = mutateTree(entry.subarray(start), target.form, random);
  if (tree === undefined) return mutateBytes(entry, corpus, random);
  return Buffer.concat([entry.subarray(0, start), tree]);
}

function mutateBytes(input: Uint8Array, corpus: readonly Uint8Array[], random: Random): Uint8Array {
  let mutated = input;
  for (let times = 1 + random.below(4); times > 0; times--)
    mutated = BYTE_MUTATIONS[random.below(BYTE_MUTATIONS.length)]!(mutated, random, corpus);
  return mutated;
}
