import { inOneOrder } from "../../../shared/state/objects.ts";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import { equalBytes } from "../../../shared/codec.ts";
import {
  compareVersions,
  endpointsHash,
  type Endpoint,
  type HostDocument,
  type NetworkDelta,
  type NetworkDocument,
  sortEndpoints,
  supersedes,
} from "../../../shared/documents.ts";
import type { NetworkId, NodeId } from "../../../shared/ids.ts";
import type { Hasher } from "../../../shared/ports.ts";

/**
 * All that a node knows, by owner. The merge rule is the whole of it: the higher revision of the
 * state, the higher (incarnation, seq) of a document wins (`supersedes`), nothing else. Signatures were
 * checked before anything comes here; whether what a document says is allowed is asked when reading
 * (core/data-plane/read-network.ts), so merges commute, and any order of the same documents ends in the same tables.
 */
export class Tables {
  #state: ClusterState | undefined;
  readonly #hosts = new Map<NodeId, HostDocument>();
  readonly #networks = new Map<NetworkId, Map<NodeId, NetworkDocument>>();
  #hostsVersion = {};
  #members: ReadonlySet<NodeId> = new Set();

  get state(): ClusterState | undefined {
    return this.#state;
  }

  get hosts(): ReadonlyMap<NodeId, HostDocument> {
    return this.#hosts;
  }

  /** Another object after each change of `hosts`: for what is kept of them. */
  get hostsVersion(): object {
    return this.#hostsVersion;
  }

  /** Whom the state names; another object when these are others. */
  get members(): ReadonlySet<NodeId> {
    return this.#members;
  }

  /** Anyone can sign for a key of his own: what others than members say is not kept. */
  isMember(node: NodeId): boolean {
    return this.#members.has(node);
  }

  /** Documents of one network, by the host that owns them. */
  documents(network: NetworkId): ReadonlyMap<NodeId, NetworkDocument> {
    return this.#networks.get(network) ?? NO_DOCUMENTS;
  }

  /** Networks of which there are documents, this host's own or others'. */
  documented(): Iterable<NetworkId> {
    return this.#networks.keys();
  }

  /**
   * True when the state was newer, or of a fork (shared/state/README.md) the one that wins. A lower revision is refused, whoever
   * signed it. Hosts that it revokes are never admitted again: their last word would keep networks from ending, and us from being
   * alone.
   */
  mergeState(state: ClusterState, winsFork = false): boolean {
    const isOther = winsFork && state.revision === this.#state?.revision;
    if (!this.isNewer(state) && !isOther) return false;
    this.#state = inOneOrder(state);
    const same = state.nodes.length === this.#members.size;
    if (!same || !state.nodes.every(({ id }) => this.#members.has(id)))
      this.#members = new Set(state.nodes.map(({ id }) => id));
    for (const node of state.revoked) if (this.#hosts.delete(node)) this.#hostsVersion = {};
    return true;
  }

  isNewer({ revision }: Pick<ClusterState, "revision">): boolean {
    return this.#state === undefined || revision > this.#state.revision;
  }

  mergeHost(document: HostDocument): boolean {
    if (this.#state?.revoked.includes(document.node) === true) return false;
    if (!supersedes(document, this.#hosts.get(document.node))) return false;
    this.#hosts.set(document.node, document);
    this.#hostsVersion = {};
    return true;
  }

  mergeNetwork(document: NetworkDocument): boolean {
    const held = this.#networks.get(document.network)?.get(document.node);
    if (!supersedes(document, held)) return false;
    let documents = this.#networks.get(document.network);
    if (documents === undefined) this.#networks.set(document.network, (documents = new Map()));
    documents.set(document.node, document);
    return true;
  }

  /**
   * `old`: nothing new. `gap`: what it changes is not what we hold, or the result has another
   * hash than the owner signed: fetch the document whole. The tables change only on `merged`.
   */
  applyDelta(delta: NetworkDelta, hasher: Hasher): "merged" | "old" | "gap" {
    const held = this.#networks.get(delta.network)?.get(delta.node);
    if (held !== undefined && compareVersions(delta.version, held.version) <= 0) return "old";
    const first = held === undefined && delta.previousSeq === 0;
    const next =
      held !== undefined &&
      held.version.incarnation === delta.version.incarnation &&
      held.version.seq === delta.previousSeq;
    if (!first && !next) return "gap";
    const endpoints = changeEndpoints(held?.endpoints ?? [], delta.put, delta.remove);
    if (!equalBytes(endpointsHash(hasher, endpoints), delta.hash)) return "gap";
    const { network, node, version, signature } = delta;
    this.mergeNetwork({ network, node, version, endpoints, signature });
    return "merged";
  }

  /**
   * The last local endpoint left: others' documents go. `owner`'s stays for its version: peers
   * hold it still, and what it says next must be newer than what they hold.
   */
  forgetOthers(network: NetworkId, owner: NodeId): void {
    const own = this.documents(network).get(owner);
    if (own === undefined) this.#networks.delete(network);
    else this.#networks.set(network, new Map([[owner, own]]));
  }
}

const NO_DOCUMENTS: ReadonlyMap<NodeId, NetworkDocument> = new Map();

/** Sorted by id, as documents are. */
export function changeEndpoints(
  endpoints: readonly Endpoint[],
  put: readonly Endpoint[],
  remove: readonly string[],
): Endpoint[] {
  const byId = new Map<string, Endpoint>(endpoints.map((endpoint) => [endpoint.id, endpoint]));
  for (const id of remove) byId.delete(id);
  for (const endpoint of put) byId.set(endpoint.id, endpoint);
  return sortEndpoints([...byId.values()]);
}
