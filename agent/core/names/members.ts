import type { NetworkRecord } from "../../../shared/cluster-state.ts";
import {
  claimedAddresses,
  type Endpoint,
  type NetworkDocument,
} from "../../../shared/documents.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import { type Ignored, readNetwork } from "../data-plane/read-network.ts";
import { admittedHosts } from "../tables/admitted.ts";
import { namesOf, outOf } from "./names.ts";
import type { Tables } from "../tables/tables.ts";

/** In answers; everything else a state can be says why it is not. */
export const IN = "in";

/** An endpoint as people are shown it, whether the rules heed it or not. */
export interface Member {
  readonly node: NodeId;
  readonly endpoint: Endpoint;
  /** Canonical; the container's own name first. */
  readonly names: readonly string[];
  /** IPv4 first. */
  readonly ips: readonly Ip[];
  /** `IN`, an `OutReason` of this or a later version, or the rule that it breaks. */
  readonly state: string;
}

/** Every endpoint that some host of the cluster claims on the network. `lost`: hosts that this one does not reach. */
export function membersOf(
  tables: Tables,
  record: NetworkRecord,
  lost: ReadonlySet<NodeId>,
): Member[] {
  const ignored = ignoredOf(tables, record);
  return documentsOfHosts(tables, record).flatMap(({ node, endpoints }) =>
    endpoints.map((endpoint) => {
      const rule = ignored.get(node)?.get(endpoint.id);
      const state = lost.has(node) && rule === undefined ? "unreachable" : undefined;
      return {
        node,
        endpoint,
        names: namesOf(endpoint),
        ips: claimedAddresses(endpoint),
        state: state ?? stateOf(endpoint, record, rule),
      };
    }),
  );
}

/** What a host said that was removed since is nobody's word, and nobody can do anything about it. */
export function documentsOfHosts(tables: Tables, { id }: NetworkRecord): NetworkDocument[] {
  const admitted = new Set(admittedHosts(tables.state).map((host) => host.id));
  return [...tables.documents(id).values()].filter(({ node }) => admitted.has(node));
}

/** As its own host and the rules say; that its host is not reached is for the host to be said. */
export function stateOf(
  endpoint: Endpoint,
  record: NetworkRecord,
  rule: Ignored["reason"] | undefined,
): string {
  return rule ?? outOf(endpoint, record) ?? IN;
}

/** Which rule each endpoint breaks, of those that break one. */
export function ignoredOf(
  tables: Tables,
  record: NetworkRecord,
): Map<NodeId, Map<Endpoint["id"], Ignored["reason"]>> {
  const found = new Map<NodeId, Map<Endpoint["id"], Ignored["reason"]>>();
  for (const { node, endpoint, reason } of readNetwork(tables, record).ignored) {
    const held = found.get(node);
    if (held === undefined) found.set(node, new Map([[endpoint, reason]]));
    else held.set(endpoint, reason);
  }
  return found;
}
