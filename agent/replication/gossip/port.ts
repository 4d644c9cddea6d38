import type { SignedNodeClaim } from "../../../shared/cluster-state.ts";
import type { Failure } from "../../../shared/errors.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";

export interface MeshPeer {
  readonly node: NodeId;
  readonly address: Ip;
  readonly port: number;
}

export interface MeshOptions {
  /** Ed25519 private key, 32-byte seed. */
  readonly identitySeed: Uint8Array;
  readonly listen: { address: Ip; port: number };
  /** Our own claim, shown to every peer before a connection is upgraded. */
  readonly claim: SignedNodeClaim;
  /** SHA-256-pinned root public key (Ed25519, 32 bytes) that controller certificates must chain to. */
  readonly rootKey: Uint8Array;
  /** Of the wire, the preferred first; absent: those of this version (shared/wire-version.ts). */
  readonly versions?: readonly number[];
}

/** A host that we dialled and that shares no wire version with us. */
export interface OtherVersion {
  readonly node: NodeId;
  readonly versions: readonly number[];
}

/** Who may connect: the signed table and its revision. A claim newer than the revision is believed. */
export interface Admission {
  readonly revision: number;
  readonly nodes: readonly NodeId[];
  readonly revoked: readonly NodeId[];
}

export interface MeshHandlers {
  /** A published message, already bounded; `from` is who handed it to us, not its author. */
  message(topic: string, from: NodeId, bytes: Uint8Array): void;
  /** A request by an admitted peer; the returned bytes are the answer. */
  request(from: NodeId, bytes: Uint8Array): Promise<Uint8Array>;
  connected(node: NodeId): void;
  disconnected(node: NodeId): void;
}

/** The encrypted mesh. Every method rejects with UNREACHABLE or TIMEOUT, never hangs. */
export interface Mesh {
  start(handlers: MeshHandlers): Promise<void>;
  admit(admission: Admission): void;
  /** Keeps connections to exactly these dialled, with backoff; others may still dial us. */
  wantPeers(peers: readonly MeshPeer[]): void;
  /** A message on the topic is sealed with `key` (32 bytes, XSalsa20-Poly1305) if given. */
  join(topic: string, key: Uint8Array | undefined): Promise<void>;
  leave(topic: string): Promise<void>;
  publish(topic: string, bytes: Uint8Array): Promise<void>;
  request(node: NodeId, bytes: Uint8Array, timeoutMs: number): Promise<Uint8Array>;
  connections(): NodeId[];
  counters(): Promise<Readonly<Record<string, number>>>;
  /** With whom no connection can be; until one can. */
  otherVersions(): Promise<readonly OtherVersion[]>;
  /** Why it cannot be started again after it ended; absent: it cannot fail. */
  failure?(): Failure | undefined;
  /** Monotonic milliseconds since when it owes a sign of life; undefined: it owes none. */
  owesSinceMs(): number | undefined;
  stop(): Promise<void>;
}
