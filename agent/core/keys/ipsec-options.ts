import { DEFAULT_SETTINGS, type KeySchedule } from "../../../shared/cluster-state.ts";
import type { Random } from "../../../shared/ports.ts";
import { FORMER_VTEP_MS } from "../data-plane/vtep-moves.ts";

/** A key is replaced after so long, so many packets or bytes; each less up to `jitter` of it. */
export interface RekeyLimits {
  readonly rekeyMs: number;
  readonly rekeyPackets: number;
  readonly rekeyBytes: number;
}

export interface KeyExchangeOptions extends RekeyLimits {
  /** 0 to 1. */
  readonly jitter: number;
  /** How long an answer is waited for; what comes later is refused. */
  readonly requestTimeoutMs: number;
  /** After a first failure; doubled with each further one. */
  readonly retryMs: number;
  readonly retryMaxMs: number;
  /** An old outbound SA stays so long beside its successor, for packets that are half way through it. */
  readonly outboundGraceMs: number;
  /** An inbound SA that its sender no longer has stays so long, for packets that are on their way. */
  readonly inboundGraceMs: number;
  /** After a start, keys of an earlier process are replaced within this time, not all at once. */
  readonly adoptedMs: number;
  /** Keys of a peer's former address stay so long: until it has keys with all its peers, it sends with these. */
  readonly formerMs: number;
  /** Peers that are asked at the same time. */
  readonly asking: number;
}

/** What the cluster's settings say. */
export function rekeyLimits(schedule: KeySchedule): RekeyLimits {
  const { ipsecMs, ipsecPackets, ipsecBytes } = schedule;
  return { rekeyMs: ipsecMs, rekeyPackets: ipsecPackets, rekeyBytes: ipsecBytes };
}

export const DEFAULT_KEY_EXCHANGE_OPTIONS: KeyExchangeOptions = {
  ...rekeyLimits(DEFAULT_SETTINGS.keySchedule),
  jitter: 0.2,
  requestTimeoutMs: 5000,
  retryMs: 500,
  retryMaxMs: 30_000,
  outboundGraceMs: 1000,
  inboundGraceMs: 5000,
  adoptedMs: 60_000,
  formerMs: FORMER_VTEP_MS,
  asking: 64,
};

/** `value`, less up to the share `jitter` of it: peers that began together do not go on so. */
export function jittered(value: number, jitter: number, random: Random): number {
  return value * (1 - (jitter * random.below(1024)) / 1024);
}

/** Milliseconds until the next try: doubled with each failure, half of it random. */
export function backoffMs(options: KeyExchangeOptions, failures: number, random: Random): number {
  const full = Math.min(options.retryMaxMs, options.retryMs * 2 ** Math.min(failures - 1, 20));
  return full / 2 + random.below(Math.max(1, Math.floor(full / 2)));
}
