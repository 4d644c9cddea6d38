/** What the pure core needs from the outside, and nothing else. */

export interface Clock {
  /** Monotonic milliseconds, from any origin. */
  nowMs(): number;
  /** Wall clock, milliseconds since 1970; only for expiry of tokens and for people to read. */
  wallMs(): number;
}

export interface Timers {
  /** Runs `run` once, so many milliseconds from now. What it returns keeps it from running. */
  after(ms: number, run: () => void): () => void;
}

export interface Random {
  /** Uniform in [0, bound), bound >= 1. */
  below(bound: number): number;
  bytes(length: number): Uint8Array;
}

export interface Hasher {
  sha256(...parts: readonly Uint8Array[]): Uint8Array;
}

/** Ed25519 with this node's identity key. */
export interface Signer {
  sign(message: Uint8Array): Uint8Array;
}

/** Ed25519, the key taken from the node id. Never throws: a malformed key or signature is false. */
export interface Verifier {
  verify(node: string, message: Uint8Array, signature: Uint8Array): boolean;
}

type Fields = Readonly<Record<string, unknown>>;

/** pino's shape: fields first, then a constant message. */
export interface Log {
  debug(fields: Fields, message: string): void;
  info(fields: Fields, message: string): void;
  warn(fields: Fields, message: string): void;
  error(fields: Fields, message: string): void;
}

export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} };
