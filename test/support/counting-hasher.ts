import { sha256 } from "../../shared/node/system.ts";
import type { Hasher } from "../../shared/ports.ts";

/** SHA-256, with what it was asked for since `reset`. */
export function countingHasher(): {
  readonly hasher: Hasher;
  readonly calls: number;
  readonly bytes: number;
  reset(): void;
} {
  const counted = {
    calls: 0,
    bytes: 0,
    hasher: {
      sha256: (...parts: readonly Uint8Array[]) => {
        counted.calls++;
        counted.bytes += parts.reduce((sum, { length }) => sum + length, 0);
        return sha256.sha256(...parts);
      },
    },
    reset: () => {
      [counted.calls, counted.bytes] = [0, 0];
    },
  };
  return counted;
}
