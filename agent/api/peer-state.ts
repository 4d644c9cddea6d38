/** How another host stands, seen from here. */
export const PEER_STATES = ["reached", "silent", "unreached", "behind_nat", "not_asked"] as const;
export type PeerState = (typeof PEER_STATES)[number];

export interface PeerSeen {
  /** It answers through nothing, for so long that its containers are out of names. */
  readonly isLost: boolean;
  /** By class through which it is asked: whether it answered the last question. */
  readonly answers: readonly boolean[];
  readonly isBehindNat: boolean;
}

/** A host behind NAT is asked through WireGuard alone, while a network of that kind is shared. */
export function peerState({ isLost, answers, isBehindNat }: PeerSeen): PeerState {
  if (isLost) return "unreached";
  if (answers.includes(true)) return "reached";
  if (answers.length > 0) return "silent";
  return isBehindNat ? "behind_nat" : "not_asked";
}
