import type { ClusterState } from "../../../shared/cluster-state.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import { directHosts } from "../tables/admitted.ts";

/**
 * A host may go on sending from the VTEP that it had before for so long after the others heard of its new one. Longer
 * than a host takes to leave it (IPsec's keys: a minute), far shorter than an address is nobody else's (ten minutes).
 */
export const FORMER_VTEP_MS = 120_000;

/**
 * A host that has both addresses sends from the former one for so long after it heard of the new one itself: the state
 * has reached the others by then, and their guards let the new one in. Gossip takes a tenth of a second; a comparison
 * with a peer, which repairs a lost message, some seconds.
 */
export const OWN_VTEP_STAYS_MS = 5000;

/** Of hosts that changed over: from where else than the signed VTEP their packets may come, the latest last. */
export type FormerVteps = ReadonlyMap<NodeId, readonly Ip[]>;

interface Former {
  readonly node: NodeId;
  readonly vtep: Ip;
  readonly leftMs: number;
}

/** Remembers which VTEPs hosts had before, for as long as packets from or to these may be on their way. No clock. */
export class VtepMoves {
  #signed = new Map<NodeId, Ip>();
  #former: Former[] = [];

  /** The newest state; what it says for the first time is nothing that changed. */
  heard(state: ClusterState | undefined, nowMs: number): void {
    const signed = new Map(directHosts(state).map(({ id, vtep }) => [id, vtep]));
    for (const [node, vtep] of this.#signed)
      if (signed.has(node) && signed.get(node) !== vtep)
        this.#former.push({ node, vtep, leftMs: nowMs });
    this.#signed = signed;
    const taken = new Set(signed.values());
    // Removed hosts have none; an address that is in use again says who uses it.
    this.#former = this.#former.filter(({ node, vtep }) => signed.has(node) && !taken.has(vtep));
  }

  /** Also forgets whose time is over. */
  former(nowMs: number): FormerVteps {
    this.#former = this.#former.filter(({ leftMs }) => nowMs < leftMs + FORMER_VTEP_MS);
    const found = new Map<NodeId, Ip[]>();
    for (const { node, vtep } of this.#former)
      found.set(node, [...(found.get(node) ?? []).filter((other) => other !== vtep), vtep]);
    return found;
  }

  /** From where this host sends beside its signed VTEP's turn; undefined: from the signed one. */
  sendsFrom(self: NodeId, nowMs: number): Ip | undefined {
    const last = this.#former.findLast(({ node }) => node === self);
    return last !== undefined && nowMs < last.leftMs + OWN_VTEP_STAYS_MS ? last.vtep : undefined;
  }
}
