import { mayHost } from "../../../shared/allowed.ts";
import type { BlockRecord, ClusterState, NetworkRecord } from "../../../shared/cluster-state.ts";
import type { NetworkDocument } from "../../../shared/documents.ts";
import type { EndpointId, NodeId } from "../../../shared/ids.ts";
import { blocksOn } from "../../../shared/state/blocks-on.ts";
import { isAdmitted } from "../tables/admitted.ts";
import { saysOn } from "../tables/hosts.ts";
import type { Tables } from "../tables/tables.ts";
import { BlockIndex } from "./block-index.ts";
import { heldOn } from "./changed-part.ts";
import { ClaimCounts } from "./claim-counts.ts";
import { type Claims, claimsOf, gatewayMacs, type Holder, type Misplaced } from "./claims.ts";
import { disputes, type Lost } from "./disputes.ts";
import type { Addressed } from "./kernel-state.ts";

/** Why an endpoint that some document holds is not in the data plane; shown in `status`. */
export interface Ignored {
  readonly node: NodeId;
  readonly endpoint: EndpointId;
  readonly reason:
    "not-admitted" | "not-allowed" | "not-hosting" | "mac-taken" | "address-taken" | Misplaced;
}

/** Endpoints of one host that hold. While they are the same, the same object. */
export interface HeldBy {
  readonly node: NodeId;
  readonly holders: readonly Holder[];
  /** The same, as kernel and guards know them: another list only when that is another. */
  readonly addressed: readonly Addressed[];
}

/** The endpoints of a network that hold under the rules, and those that do not. */
export interface Reading {
  /** In the order of the hosts' ids. */
  readonly byHost: readonly HeldBy[];
  /** All of them, put together when it is asked for. */
  readonly holders: readonly Holder[];
  readonly ignored: readonly Ignored[];
}

/**
 * The rules, applied when reading: the host is admitted, allowed on the network and has not said that
 * it is not (any more), each address lies in a block of that host (the most specific block decides), none is the gateway, and no address
 * is claimed twice: a host that names one for two endpoints would have everybody's neighbour entry go to and fro.
 * A MAC is the endpoint's whose address derives it, whoever else claims it; any other is the first claimant's,
 * in an order that is the same on every node.
 */
export function readNetwork(tables: Tables, record: NetworkRecord): Reading {
  let ofRecords = keptOfTables.get(tables);
  if (ofRecords === undefined) keptOfTables.set(tables, (ofRecords = new WeakMap()));
  let kept = ofRecords.get(record);
  if (kept === undefined) ofRecords.set(record, (kept = new KeptReading(record)));
  return kept.read(tables);
}

/**
 * The same without anything that was kept, compared with what was. A difference is a fault of what keeps it, which
 * then is forgotten. @returns whether there was none
 */
export function readAnew(tables: Tables, record: NetworkRecord): boolean {
  const kept = readNetwork(tables, record);
  const anew = new KeptReading(record).read(tables);
  const isSame = textOf(kept) === textOf(anew);
  if (!isSame) keptOfTables.get(tables)?.delete(record);
  return isSame;
}

function textOf({ byHost, ignored }: Reading): string {
  return JSON.stringify([byHost, ignored]);
}

/** What a host's document on a network says, and what of it holds. */
interface HostReading {
  readonly claims: Claims;
  /** Why nothing of it counts. */
  readonly outside: Outside | undefined;
  readonly held: HeldBy;
  readonly ignored: readonly Ignored[];
}

type Outside = "not-admitted" | "not-allowed" | "not-hosting";

const keptOfTables = new WeakMap<Tables, WeakMap<NetworkRecord, KeptReading>>();

/** By which it is decided whether what a host says counts, beside the network's own record. */
type Ground = Partial<Pick<ClusterState, "nodes" | "revoked" | "networks">> & {
  readonly hosts: object;
};

/** Records, lists of them and documents are never changed, only replaced: what was read of the same is not read again. */
class KeptReading {
  readonly #record: NetworkRecord;
  readonly #counts: ClaimCounts;
  readonly #hosts = new Map<NodeId, HostReading>();
  /** Of hosts that lose something to others: what they were left. */
  #left = new Map<NodeId, HeldBy>();
  #order: readonly NodeId[] = [];
  /** Of this network. */
  #blocks: readonly BlockRecord[] = [];
  #index = new BlockIndex([]);
  #last:
    | {
        readonly state: ClusterState | undefined;
        readonly ground: Ground;
        readonly documents: readonly NetworkDocument[];
        readonly reading: Reading;
      }
    | undefined;

  constructor(record: NetworkRecord) {
    this.#record = record;
    this.#counts = new ClaimCounts(gatewayMacs(record));
  }

  read(tables: Tables): Reading {
    const { state, hostsVersion } = tables;
    const byNode = tables.documents(this.#record.id);
    const documents = [...byNode.values()];
    const last = this.#last;
    const ground = groundOf(state, hostsVersion);
    const isSameGround = last !== undefined && sameGround(last.ground, ground);
    const isSame = last?.state === state && isSameGround && areSame(last.documents, documents);
    if (isSame) return last.reading;
    this.#blocksOf(state);
    const isFewer = this.#forgetOthers(byNode);
    const changed = documents.filter((document) => this.#readHost(tables, document, isSameGround));
    // The same on every node, so that each gives what is claimed twice to the same claimant.
    if (this.#order.length !== byNode.size || !this.#order.every((node) => byNode.has(node)))
      this.#order = [...byNode.keys()].toSorted();
    const isOther = last === undefined || isFewer || changed.length > 0;
    const reading = isOther ? this.#reading() : last.reading;
    this.#last = { state, ground, documents, reading };
    return reading;
  }

  /** Most revisions give or take blocks of other networks. */
  #blocksOf(state: ClusterState | undefined): void {
    const blocks = blocksOn(state?.blocks ?? [], this.#record.id);
    if (areSame(blocks, this.#blocks)) return;
    this.#blocks = blocks;
    this.#index = new BlockIndex(blocks);
  }

  /** @returns whether there were any */
  #forgetOthers(documents: ReadonlyMap<NodeId, NetworkDocument>): boolean {
    const gone = [...this.#hosts.keys()].filter((node) => !documents.has(node));
    for (const node of gone) {
      this.#counts.set(node, []);
      this.#hosts.delete(node);
    }
    return gone.length > 0;
  }

  /** @returns whether what holds of it, or why it does not, is another */
  #readHost(tables: Tables, document: NetworkDocument, isSameGround: boolean): boolean {
    const { node } = document;
    const before = this.#hosts.get(node);
    const outside =
      isSameGround && before !== undefined ? before.outside : outsider(tables, node, this.#record);
    const claims = claimsOf(document, this.#record, this.#index, before?.claims);
    if (before?.claims.all === claims.all && before.outside === outside) {
      if (before.claims !== claims) this.#hosts.set(node, { ...before, claims });
      return false;
    }
    this.#counts.set(node, outside === undefined ? claims.placed : []);
    this.#hosts.set(node, {
      claims,
      outside,
      held: { node, holders: claims.holders, addressed: claims.addressed },
      ignored: ignoredOf(claims, outside),
    });
    return true;
  }

  #reading(): Reading {
    const lost = this.#lost();
    const [byHost, ignored, left]: [HeldBy[], Ignored[], Map<NodeId, HeldBy>] = [[], [], new Map()];
    for (const node of this.#order) {
      const host = this.#hosts.get(node)!;
      for (const each of host.ignored) ignored.push(each);
      if (host.outside !== undefined) continue;
      if (!lost.has(node)) byHost.push(host.held);
      else {
        left.set(node, this.#leftTo(host, lost));
        byHost.push(left.get(node)!);
      }
    }
    for (const ofHost of lost.values())
      for (const [{ holder }, reason] of ofHost)
        ignored.push({ node: holder.node, endpoint: holder.endpoint.id, reason });
    this.#left = left;
    let all: readonly Holder[] | undefined;
    return {
      byHost,
      ignored,
      get holders() {
        return (all ??= byHost.flatMap(({ holders }) => holders));
      },
    };
  }

  #leftTo({ held, claims }: HostReading, lost: Lost): HeldBy {
    const { node } = held;
    const before = this.#left.get(node);
    const stay = claims.placed.filter((claim) => lost.get(node)?.has(claim) !== true);
    const holders = heldOn(
      before?.holders,
      stay.map(({ holder }) => holder),
    );
    const addressed = heldOn(
      before?.addressed,
      stay.map((claim) => claim.addressed),
    );
    const isSame = before?.holders === holders && before.addressed === addressed;
    return isSame ? before : { node, holders, addressed };
  }

  /** By host, in their order. */
  #lost(): Lost {
    const disputed = this.#counts.disputed();
    if (disputed.size === 0) return new Map();
    const nodes = new Set([...disputed].map(({ holder }) => holder.node));
    const claims = this.#order.flatMap((node) => {
      const placed = nodes.has(node) ? (this.#hosts.get(node)?.claims.placed ?? []) : [];
      return placed.filter((claim) => disputed.has(claim));
    });
    return disputes(this.#record, claims);
  }
}

function areSame<T>(a: readonly T[], b: readonly T[]): boolean {
  return a.length === b.length && a.every((each, i) => each === b[i]);
}

function groundOf(state: ClusterState | undefined, hosts: object): Ground {
  if (state === undefined) return { hosts };
  const { nodes, revoked, networks } = state;
  return { nodes, revoked, networks, hosts };
}

function sameGround(a: Ground, b: Ground): boolean {
  return (
    a.nodes === b.nodes &&
    a.revoked === b.revoked &&
    a.networks === b.networks &&
    a.hosts === b.hosts
  );
}

function outsider(
  { state, hosts }: Tables,
  node: NodeId,
  { id }: NetworkRecord,
): Outside | undefined {
  if (!isAdmitted(state, node)) return "not-admitted";
  if (!mayHost(state, node, id)) return "not-allowed";
  // It left the network, and whoever was on it then may never tell us what it said last.
  if (saysOn(hosts, node, id) === false) return "not-hosting";
  return undefined;
}

function ignoredOf({ placed, misplaced, document }: Claims, outside: Outside | undefined) {
  const { node } = document;
  const ignored = misplaced.map(({ holder, misplaced: why }): Ignored => ({
    node,
    endpoint: holder.endpoint.id,
    reason: outside ?? why,
  }));
  if (outside === undefined) return ignored;
  const others = placed.map(({ holder }): Ignored => ({
    node,
    endpoint: holder.endpoint.id,
    reason: outside,
  }));
  return [...ignored, ...others];
}
