import type { NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import type { Random } from "../../../shared/ports.ts";
import type { KeyAnswer, KeyRequest } from "./ipsec-messages.ts";
import type { KeyExchangeOptions } from "./ipsec-options.ts";
import type { PairKey } from "./pair-key.ts";
import type { SaName } from "./security-association.ts";

/** This host and one other: what both halves, sending and receiving, know of it. */
export interface Pair {
  readonly node: NodeId;
  readonly vtep: Ip;
  /** Ours, see KeyRequest; another one when something that the peer sends with was lost here. */
  session: Uint8Array;
  /** The peer's, from its last message. */
  heard: Uint8Array | undefined;
}

/** How a pair's halves have something done; each `done` is called once. */
export interface PairActions {
  readonly local: Ip;
  options(): KeyExchangeOptions;
  readonly random: Random;
  put(pair: Pair, sa: SaName, key: PairKey, done: (ok: boolean, nowMs: number) => void): void;
  /** What is already gone is a success. */
  remove(pair: Pair, sas: readonly SaName[], done: (ok: boolean, nowMs: number) => void): void;
  /** Undefined: no answer, or none that can be read. */
  request(
    pair: Pair,
    request: KeyRequest,
    nowMs: number,
    done: (answer: KeyAnswer | undefined, nowMs: number) => void,
  ): void;
  /** That no inbound SA of this host has; taken until `freeSpi`. */
  takeSpi(): number;
  freeSpi(spi: number): void;
  count(what: keyof KeyExchangeCounters): void;
}

/** What was done, refused or lost, for `status`. */
export interface KeyExchangeCounters {
  /** Outbound SAs installed: rotations, and first keys. */
  installed: number;
  /** That a peer has noted which of its keys are in use. */
  reported: number;
  /** Keys handed to peers. */
  given: number;
  refusedByPeer: number;
  refusedToPeer: number;
  unanswered: number;
  lateAnswers: number;
  malformed: number;
  kernelFailures: number;
  /** SAs that somebody else took out of the kernel. */
  lost: number;
  /** With our reqid, and known to nobody. */
  strays: number;
}
