import type { Tables } from "../../agent/core/tables/tables.ts";
import { decodeMessage, SyncAnswer, SyncRequest } from "../../agent/core/tables/messages.ts";
import { FOR_CLUSTER, FOR_NETWORK } from "../../agent/replication/request-kinds.ts";
import { BOUNDS } from "../../shared/bounds.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";

/**
 * What one life of an agent was answered by peers, read off the wire: whoever has had no answer cannot
 * be in sync, whatever the code under test says.
 */
export class Answers {
  #ofHosts = false;
  readonly #of = new Set<NetworkId>();

  heard(request: Uint8Array, answer: Uint8Array): void {
    if (request[0] === FOR_CLUSTER) this.#ofHosts = true;
    if (request[0] === FOR_NETWORK) this.#ofNetwork(request.subarray(1), answer);
  }

  #ofNetwork(request: Uint8Array, answer: Uint8Array): void {
    const { network } = decodeMessage(SyncRequest, request, BOUNDS.syncMessageBytes);
    if (this.#of.has(network)) return;
    const { kind } = decodeMessage(SyncAnswer, answer, BOUNDS.syncMessageBytes);
    if (kind !== "notHere") this.#of.add(network);
  }

  /** What was heard on its topic counts no more. */
  left(network: NetworkId): void {
    this.#of.delete(network);
  }

  /** Who is on the network, and by one of these what it says. */
  allow(network: NetworkId, self: NodeId, { hosts }: Tables): boolean {
    const others = [...hosts.values()].filter(({ node }) => node !== self);
    const alone = !others.some(({ hosting }) => hosting.includes(network));
    return this.#ofHosts && (alone || this.#of.has(network));
  }
}
