import { BOUNDS } from "../../../shared/bounds.ts";
import type { NetworkRecord } from "../../../shared/cluster-state.ts";
import { canonicalName, isName } from "../../../shared/dns-name.ts";
import { claimedAddresses, type Endpoint } from "../../../shared/documents.ts";
import type { EndpointId, NetworkId, NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import type { Group } from "../data-plane/changed-part.ts";
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
  /** As `Endpoint.ports`. */
  readonly ports?: readonly string[] | undefined;
}

/** A name that has a virtual address on the network. */
export interface NamedVip {
  /** Canonical; one label. */
  readonly name: string;
  /** One for each family of the network. */
  readonly ips: readonly Ip[];
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

/** What one host's endpoints are called, and whether this one reaches it. */
export interface NamedHost extends Group<Held> {
  readonly node: NodeId;
  readonly unhealthyNames: NetworkRecord["unhealthyNames"];
  readonly isLost: boolean;
}

/**
 * Who holds names on the network, by the rules that decide on its kernel entries too. `lost`: hosts
 * that this one does not reach.
 */
export function namedHosts(
  tables: Tables,
  record: NetworkRecord,
  lost: ReadonlySet<NodeId>,
): NamedHost[] {
  const { unhealthyNames } = record;
  return readNetwork(tables, record).byHost.map(({ node, holders }) => ({
    node,
    unhealthyNames,
    isLost: lost.has(node),
    members: holders,
  }));
}

export function holdersOf({ node, unhealthyNames, isLost, members }: NamedHost): Holder[] {
  return members.flatMap(({ endpoint }) => {
    const names = namesOf(endpoint);
    if (names.length === 0) return [];
    const out = isLost ? "unreachable" : outOf(endpoint, { unhealthyNames });
    const { id, ports } = endpoint;
    return [{ endpoint: id, node, names, ips: claimedAddresses(endpoint), out, ports }];
  });
}
