import type { Failure } from "../../../shared/errors.ts";

/** What one host answered when it was asked last. */
export interface Answer {
  readonly name: string;
  /** Of the full-size packet. */
  readonly bytes: number;
  /** Undefined: no answer to the full-size packet. */
  readonly roundTripMs: number | undefined;
  /** Undefined: no answer to a small packet, or none was sent. */
  readonly smallRoundTripMs?: number | undefined;
}

/** Its kernel is there, whatever size of packets the path carries. */
export function isReached({ roundTripMs, smallRoundTripMs }: Answer): boolean {
  return roundTripMs !== undefined || smallRoundTripMs !== undefined;
}

/** The path to the host carries small packets only. */
export function isNarrow({ roundTripMs, smallRoundTripMs }: Answer): boolean {
  return roundTripMs === undefined && smallRoundTripMs !== undefined;
}

/** Connections over such a path open, and then stand still: people take it for anything but the MTU. */
export function narrowPaths(answers: readonly Answer[]): Failure | undefined {
  const narrow = answers.filter(isNarrow);
  const [first] = narrow;
  if (first === undefined) return undefined;
  const names = narrow
    .map(({ name }) => name)
    .toSorted()
    .join(", ");
  return {
    code: "UNREACHABLE",
    message: `packets of ${first.bytes} bytes do not reach ${names}, small ones do: the MTU is smaller there, or on the way`,
    next: "compare the MTU of the hosts' interfaces (`ip link`) and of what is between them; a network of `-o mtu=` less fits at once",
  };
}
