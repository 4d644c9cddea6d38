import type { ClusterState } from "../../shared/cluster-state.ts";
import type { HostDocument } from "../../shared/documents.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import type { Hasher } from "../../shared/ports.ts";
import { wantedPeers } from "../core/tables/peers.ts";

type Hosts = ReadonlyMap<NodeId, Pick<HostDocument, "hosting">>;

/** As much of a state as the choice follows from. */
type Ground = Pick<ClusterState, "nodes" | "revoked" | "networks" | "settings">;

/**
 * Whom this host keeps connections with. A choice hashes all hosts' ids, so it is made again only when other hosts are
 * members, or others are on this host's networks: not for each block given and each word of a host elsewhere.
 */
export class ChosenPeers {
  readonly #self: NodeId;
  readonly #hasher: Hasher;
  /** What each host said when the choice was made, or since. */
  readonly #hosting = new Map<NodeId, readonly NetworkId[]>();
  #own: ReadonlySet<NetworkId> = new Set();
  #ground: Ground | undefined;
  #isDue = true;
  #chosen: ReadonlySet<NodeId> = new Set();

  constructor(self: NodeId, hasher: Hasher) {
    this.#self = self;
    this.#hasher = hasher;
  }

  get chosen(): ReadonlySet<NodeId> {
    return this.#chosen;
  }

  /** A host's word, before `changed`. */
  heard({ node, hosting }: Pick<HostDocument, "node" | "hosting">): void {
    const before = this.#hosting.get(node) ?? [];
    this.#hosting.set(node, hosting);
    const touches = (network: NetworkId): boolean => this.#own.has(network);
    if (node === this.#self || before.some(touches) || hosting.some(touches)) this.#isDue = true;
  }

  /** State and hosts are these now. True: they led to a choice, which may be the same. */
  changed(state: ClusterState, hosts: Hosts): boolean {
    if (!this.#isDue && isSameGround(this.#ground, state)) return false;
    const hosted = hosts.get(this.#self)?.hosting ?? [];
    this.#own = new Set(hosted);
    this.#hosting.clear();
    for (const [node, { hosting }] of hosts) this.#hosting.set(node, hosting);
    this.#ground = state;
    this.#isDue = false;
    this.#chosen = new Set(wantedPeers(this.#self, state, hosts, hosted, this.#hasher));
    return true;
  }
}

/** Lists of a state are replaced when they change, and only then (shared/state). */
function isSameGround(before: Ground | undefined, after: Ground): boolean {
  return (
    before !== undefined &&
    before.nodes === after.nodes &&
    before.revoked === after.revoked &&
    before.networks === after.networks &&
    before.settings === after.settings
  );
}
