import { BOUNDS } from "../../../shared/bounds.ts";
import type { NetworkRecord } from "../../../shared/cluster-state.ts";
import { canonicalName, isName } from "../../../shared/dns-name.ts";
import { claimedAddresses, type Endpoint } from "../../../shared/documents.ts";
import type { EndpointId, NetworkId, NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import { changedPart } from "../data-plane/changed-part.ts";
import type { Holder as Held } from "../data-plane/claims.ts";
import { readNetwork } from "../data-plane/read-network.ts";
import type { Tables } from "../tables/tables.ts";

/**
 * Why a holder of a name is in no answer. The first four are said by its own host; `unreachable` is
 * what this host finds itself.
 */
export const OUT_REASONS = ["starting", "unhealthy", "paused", "stopping", "unreachable"] as const;
export type OutReason = (typeof OUT_REASONS)[number];

/** What a health check says, and `-o dns.unhealthy=include` passes over. */
const HEALTH_REASONS: readonly string[] = ["starting", "unhealthy"];

/** An endpoint as a holder of names. */
export interface Holder {
  readonly endpoint: EndpointId;
  readonly node: NodeId;
  /** Canonical; the container's own name first. */
  readonly names: readonly string[];
  /** IPv4 first; at least one. */
  readonly ips: readonly Ip[];
  /** An `OutReason`, or one of a later version. */
  readonly out: string | undefined;
}

/** A network as names need it. */
export interface NamedNetwork {
  readonly network: NetworkId;
  /** Canonical: `<name>.<network>`. Undefined: Docker has not told it yet. */
  readonly name: string | undefined;
  /** Peers' documents were had: that a name is not known means that it is not there. */
  readonly complete: boolean;
}

/** What an endpoint is found by, canonical, the container's own name first; empty: nothing yet. */
export function namesOf({ names = [], moreNames = [] }: SaidNames): string[] {
  return [...names, ...moreNames].map(canonicalName).filter(isName);
}

type SaidNames = Pick<Endpoint, "names" | "moreNames">;

/** As a document says them. */
export function namesAsSaid(names: readonly string[]): SaidNames {
  const more = names.slice(BOUNDS.endpointNames);
  const said = { names: names.slice(0, BOUNDS.endpointNames) };
  return more.length === 0 ? said : { ...said, moreNames: more };
}

/** Why its own host says that it is in no answer, where the network heeds it. */
export function outOf(
  { out }: Pick<Endpoint, "out">,
  { unhealthyNames }: Pick<NetworkRecord, "unhealthyNames">,
): string | undefined {
  const ignored = unhealthyNames === "include" && out !== undefined && HEALTH_REASONS.includes(out);
  return ignored ? undefined : out;
}

/**
 * Who holds names on the network, by the rules that decide on its kernel entries too. `lost`: hosts
 * that this one does not reach. What did not change is the same object as the last time.
 */
export function holdersOf(
  tables: Tables,
  record: NetworkRecord,
  lost: ReadonlySet<NodeId>,
): Holder[] {
  return [...readNetwork(tables, record).byHost].flatMap(([node, held]) =>
    namedOf(held, record, lost.has(node)),
  );
}

/** Of one host's endpoints, while they and what decides on them are the same. */
interface Named {
  readonly record: NetworkRecord;
  readonly isLost: boolean;
  readonly holders: readonly Holder[];
}

const ofHosts = new WeakMap<readonly Held[], Named>();

function namedOf(held: readonly Held[], record: NetworkRecord, isLost: boolean): readonly Holder[] {
  const kept = ofHosts.get(held);
  if (kept?.record === record && kept.isLost === isLost) return kept.holders;
  const named = held.flatMap(({ node, endpoint }) => {
    const holder = holderOf(node, endpoint);
    if (holder.names.length === 0) return [];
    return [outFor(holder, isLost ? "unreachable" : outOf(endpoint, record))];
  });
  ofHosts.set(held, { record, isLost, holders: named });
  return named;
}

/** Endpoints are never changed, only replaced. */
const holders = new WeakMap<Endpoint, Holder>();
const others = new WeakMap<Holder, Holder>();

function holderOf(node: NodeId, endpoint: Endpoint): Holder {
  let holder = holders.get(endpoint);
  if (holder === undefined) {
    const { id, out } = endpoint;
    holder = { endpoint: id, node, names: namesOf(endpoint), ips: claimedAddresses(endpoint), out };
    holders.set(endpoint, holder);
  }
  return holder;
}

/** The same holder as it looks from here. */
function outFor(holder: Holder, out: string | undefined): Holder {
  if (holder.out === out) return holder;
  let other = others.get(holder);
  if (other === undefined || other.out !== out) {
    other = { ...holder, out };
    others.set(holder, other);
  }
  return other;
}

/** What to tell so that who knows `before` knows `after`. */
export function changedHolders(
  before: readonly Holder[],
  after: readonly Holder[],
): { put: Holder[]; remove: EndpointId[] } {
  const changed = changedPart(before, after);
  const ids = new Set([...changed.before, ...changed.after].map(({ endpoint }) => endpoint));
  if (ids.size === 0) return { put: [], remove: [] };
  const [was, is] = [lastOf(before, ids), lastOf(after, ids)];
  return {
    put: [...is.values()].filter((holder) => was.get(holder.endpoint) !== holder),
    remove: [...was.keys()].filter((endpoint) => !is.has(endpoint)),
  };
}

/** A host may name another's endpoint: then the last that does has it. */
function lastOf(list: readonly Holder[], ids: ReadonlySet<EndpointId>): Map<EndpointId, Holder> {
  return new Map(
    list.flatMap((holder) => (ids.has(holder.endpoint) ? [[holder.endpoint, holder]] : [])),
  );
}
