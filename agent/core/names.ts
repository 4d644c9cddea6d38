import type { NetworkRecord } from "../../shared/cluster-state.ts";
import { canonicalName, isName } from "../../shared/dns-name.ts";
import { claimedAddresses } from "../../shared/documents.ts";
import type { EndpointId, NetworkId, NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import { readNetwork } from "./desired.ts";
import type { Tables } from "./tables.ts";

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

/**
 * Who holds names on the network, by the rules that decide on its kernel entries too. `lost`: hosts
 * that this one does not reach.
 */
export function holdersOf(
  tables: Tables,
  record: NetworkRecord,
  lost: ReadonlySet<NodeId>,
): Holder[] {
  return readNetwork(tables, record).holders.flatMap(({ node, endpoint }) => {
    const names = (endpoint.names ?? []).map(canonicalName).filter(isName);
    if (names.length === 0) return [];
    const { id, out } = endpoint;
    const ignored =
      record.unhealthyNames === "include" && out !== undefined && HEALTH_REASONS.includes(out);
    const said = ignored ? undefined : out;
    return [
      {
        endpoint: id,
        node,
        names,
        ips: claimedAddresses(endpoint),
        out: lost.has(node) ? "unreachable" : said,
      },
    ];
  });
}
