import type { NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";

export interface ControllerAddress {
  readonly address: Ip;
  readonly port: number;
  /** Undefined only while joining: then the token pins the cluster's root key. */
  readonly peer: NodeId | undefined;
}

/** Bytes to the controller and back, over a connection that proves who is at its ends. */
export interface ControlChannel {
  /** Dials when needed. Rejects with whatever went wrong on the way. */
  exchange(
    to: ControllerAddress,
    request: Uint8Array,
    timeoutMs: number,
  ): Promise<{ bytes: Uint8Array; peer: NodeId }>;
  /** What the controller sends to who watches it (one of 0.1.0 other than this version's), until `signal` aborts or the stream ends. */
  watch(
    to: ControllerAddress,
    heard: (bytes: Uint8Array) => void,
    signal: AbortSignal,
  ): Promise<void>;
  close(): Promise<void>;
}
