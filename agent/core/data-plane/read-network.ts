import { mayHost } from "../../../shared/allowed.ts";
import type { ClusterState, NetworkRecord } from "../../../shared/cluster-state.ts";
import type { NetworkDocument } from "../../../shared/documents.ts";
import type { EndpointId, NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import type { Mac } from "../../../shared/mac.ts";
import { admittedHosts } from "../tables/admitted.ts";
import { saysOn } from "../tables/hosts.ts";
import type { Tables } from "../tables/tables.ts";
import { ClaimCounts } from "./claim-counts.ts";
import {
  type Claim,
  type Claims,
  claimsOf,
  gatewayMacs,
  type Holder,
  type Misplaced,
} from "./claims.ts";

/** Why an endpoint that some document holds is not in the data plane; shown in `status`. */
export interface Ignored {
  readonly node: NodeId;
  readonly endpoint: EndpointId;
  readonly reason:
    "not-admitted" | "not-allowed" | "not-hosting" | "mac-taken" | "address-taken" | Misplaced;
}

/** The endpoints of a network that hold under the rules, and those that do not. */
export interface Reading {
  readonly holders: readonly Holder[];
  /** The same: while a host's are the same, the same list. */
  readonly byHost: ReadonlyMap<NodeId, readonly Holder[]>;
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
  const documents = [...tables.documents(record.id).values()];
  const kept = keptOf(tables, record);
  const last = kept.last;
  const same =
    last !== undefined &&
    last.state === tables.state &&
    last.hosts === tables.hostsVersion &&
    last.documents.length === documents.length &&
    last.documents.every((document, i) => document === documents[i]);
  if (same) return last.reading;
  const reading = read(tables, record, documents, kept.counts);
  kept.last = { state: tables.state, hosts: tables.hostsVersion, documents, reading };
  return reading;
}

/** Records and documents are never changed, only replaced: what was read of the same is read again. */
interface Kept {
  readonly counts: ClaimCounts;
  last?: {
    readonly state: ClusterState | undefined;
    readonly hosts: object;
    readonly documents: readonly NetworkDocument[];
    readonly reading: Reading;
  };
}

const keptOfTables = new WeakMap<Tables, WeakMap<NetworkRecord, Kept>>();

function keptOf(tables: Tables, record: NetworkRecord): Kept {
  let ofRecords = keptOfTables.get(tables);
  if (ofRecords === undefined) keptOfTables.set(tables, (ofRecords = new WeakMap()));
  let kept = ofRecords.get(record);
  if (kept === undefined)
    ofRecords.set(record, (kept = { counts: new ClaimCounts(gatewayMacs(record)) }));
  return kept;
}

function read(
  tables: Tables,
  record: NetworkRecord,
  documents: readonly NetworkDocument[],
  counts: ClaimCounts,
): Reading {
  const { state, hosts } = tables;
  const admitted = new Set(admittedHosts(state).map(({ id }) => id));
  const ignored: Ignored[] = [];
  const claims = new Map<NodeId, Claims>();
  // Sorted, so that every node gives what is claimed twice to the same claimant.
  for (const document of documents.toSorted((a, b) => (a.node < b.node ? -1 : 1))) {
    const { node } = document;
    const outside = outsider(node);
    const said = claimsOf(document, record, state);
    if (outside === undefined) claims.set(node, said);
    for (const { holder, misplaced } of said.misplaced)
      ignored.push({ node, endpoint: holder.endpoint.id, reason: outside ?? misplaced });
    if (outside === undefined) continue;
    for (const { endpoint } of said.holders)
      ignored.push({ node, endpoint: endpoint.id, reason: outside });
  }
  counts.set(new Map([...claims].map(([node, { placed }]) => [node, placed])));
  const byHost = new Map([...claims].map(([node, { holders }]) => [node, holders]));
  if (counts.areDisputed) {
    const lost = disputes(record, [...claims.values()]);
    for (const [node, holders] of byHost) {
      const left = holders.filter((holder) => !lost.has(holder));
      if (left.length < holders.length) byHost.set(node, left);
    }
    for (const [{ node, endpoint }, reason] of lost)
      ignored.push({ node, endpoint: endpoint.id, reason });
  }
  return { holders: [...byHost.values()].flat(), byHost, ignored };

  function outsider(node: NodeId): "not-admitted" | "not-allowed" | "not-hosting" | undefined {
    if (!admitted.has(node)) return "not-admitted";
    if (!mayHost(state, node, record.id)) return "not-allowed";
    // It left the network, and whoever was on it then may never tell us what it said last.
    if (saysOn(hosts, node, record.id) === false) return "not-hosting";
    return undefined;
  }
}

/** Who does not get what is claimed twice: a pass over all claims, in an order that is the same on every node. */
function disputes(
  record: NetworkRecord,
  claims: readonly Claims[],
): ReadonlyMap<Holder, "mac-taken" | "address-taken"> {
  const macs = new Set<Mac>(gatewayMacs(record));
  const taken = new Set<Ip>();
  const lost = new Map<Holder, "mac-taken" | "address-taken">();
  const all = claims.flatMap(({ placed }) => placed);
  const isDerived = ({ derivesMac }: Claim): boolean => derivesMac;
  // What an address derives first: no set of other claims keeps it back.
  const [derived, chosen] = [all.filter(isDerived), all.filter((claim) => !isDerived(claim))];
  for (const { holder, claimed } of [derived, chosen].flat()) {
    const { mac } = holder.endpoint;
    if (macs.has(mac)) lost.set(holder, "mac-taken");
    else if (claimed.some((ip) => taken.has(ip))) lost.set(holder, "address-taken");
    else {
      macs.add(mac);
      for (const ip of claimed) taken.add(ip);
    }
  }
  return lost;
}
