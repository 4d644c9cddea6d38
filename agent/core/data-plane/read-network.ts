import { mayHost } from "../../../shared/allowed.ts";
import type { ClusterState, NetworkRecord } from "../../../shared/cluster-state.ts";
import {
  addressesOf,
  claimedAddresses,
  type Endpoint,
  type NetworkDocument,
} from "../../../shared/documents.ts";
import type { EndpointId, NetworkId, NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import { derivedMacs, type Mac, ruleMac } from "../../../shared/mac.ts";
import { admittedHosts } from "../tables/admitted.ts";
import { saysOn } from "../tables/hosts.ts";
import type { Tables } from "../tables/tables.ts";
import { BlockIndex } from "./block-index.ts";

/** Why an endpoint that some document holds is not in the data plane; shown in `status`. */
export interface Ignored {
  readonly node: NodeId;
  readonly endpoint: EndpointId;
  readonly reason:
    | "not-admitted"
    | "not-allowed"
    | "not-hosting"
    | "not-in-block"
    | "gateway"
    | "mac-taken"
    | "address-taken"
    | "no-address";
}

/** An endpoint that holds under the rules, whose it is, and all it may speak from. */
export interface Holder {
  readonly node: NodeId;
  readonly endpoint: Endpoint;
  readonly ips: readonly Ip[];
}

/** The endpoints of a network that hold under the rules, and those that do not. */
export interface Reading {
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
  const documents = [...tables.documents(record.id).values()];
  const held = readings.get(record);
  const same =
    held !== undefined &&
    held.state === tables.state &&
    held.hosts === tables.hostsVersion &&
    held.documents.length === documents.length &&
    held.documents.every((document, i) => document === documents[i]);
  if (same) return held.reading;
  const reading = read(tables, record, documents);
  readings.set(record, { state: tables.state, hosts: tables.hostsVersion, documents, reading });
  return reading;
}

/** Records and documents are never changed, only replaced: what was read of the same is read again. */
const readings = new WeakMap<
  NetworkRecord,
  {
    readonly state: ClusterState | undefined;
    readonly hosts: object;
    readonly documents: readonly NetworkDocument[];
    readonly reading: Reading;
  }
>();

function read(
  tables: Tables,
  record: NetworkRecord,
  documents: readonly NetworkDocument[],
): Reading {
  const { state, hosts } = tables;
  const admitted = new Set(admittedHosts(state).map(({ id }) => id));
  const holders: Holder[] = [];
  const ignored: Ignored[] = [];
  const [derived, chosen]: [Claim[], Claim[]] = [[], []];
  // Sorted, so that every node gives what is claimed twice to the same claimant.
  for (const document of documents.toSorted((a, b) => (a.node < b.node ? -1 : 1))) {
    const { node } = document;
    const outside = outsider(node);
    for (const claim of claimsOf(document, record, state)) {
      const reason = outside ?? claim.misplaced;
      if (reason !== undefined) ignored.push({ node, endpoint: claim.endpoint.id, reason });
      else (claim.derivesMac ? derived : chosen).push(claim);
    }
  }
  // The bridge of each host has the gateway's.
  const macs = new Set<Mac>(record.subnets.map(({ gateway }) => ruleMac(gateway)));
  const taken = new Set<Ip>();
  // What an address derives first: no set of other claims keeps it back.
  for (const claims of [derived, chosen])
    for (const { holder, claimed } of claims) {
      const { node, endpoint } = holder;
      const reason = macs.has(endpoint.mac)
        ? "mac-taken"
        : claimed.some((ip) => taken.has(ip))
          ? "address-taken"
          : undefined;
      if (reason !== undefined) {
        ignored.push({ node, endpoint: endpoint.id, reason });
        continue;
      }
      macs.add(endpoint.mac);
      for (const ip of claimed) taken.add(ip);
      holders.push(holder);
    }
  return { holders, ignored };

  function outsider(node: NodeId): Ignored["reason"] | undefined {
    if (!admitted.has(node)) return "not-admitted";
    if (!mayHost(state, node, record.id)) return "not-allowed";
    // It left the network, and whoever was on it then may never tell us what it said last.
    if (saysOn(hosts, node, record.id) === false) return "not-hosting";
    return undefined;
  }
}

/** An endpoint in its host's document, and what follows of it without any other document. */
interface Claim {
  readonly endpoint: Endpoint;
  readonly claimed: readonly Ip[];
  readonly derivesMac: boolean;
  /** Why it is not where its host may put it. */
  readonly misplaced: "no-address" | "gateway" | "not-in-block" | undefined;
  /** What it is when nothing speaks against it. */
  readonly holder: Holder;
}

/** Worked out once for a document and a state: a change of one host's endpoints leaves the others' as they were read. */
const claims = new WeakMap<
  NetworkDocument,
  {
    readonly state: ClusterState | undefined;
    readonly record: NetworkRecord;
    readonly claims: readonly Claim[];
  }
>();

function claimsOf(
  document: NetworkDocument,
  record: NetworkRecord,
  state: ClusterState | undefined,
): readonly Claim[] {
  const held = claims.get(document);
  if (held?.record === record && held.state === state) return held.claims;
  const made = document.endpoints.map((endpoint) => claimOf(endpoint, document, record, state));
  claims.set(document, { state, record, claims: made });
  return made;
}

function claimOf(
  endpoint: Endpoint,
  { node }: NetworkDocument,
  { id, subnets }: NetworkRecord,
  state: ClusterState | undefined,
): Claim {
  const claimed = claimedAddresses(endpoint);
  return {
    endpoint,
    claimed,
    derivesMac: derivesMac(endpoint),
    misplaced: misplaced(),
    holder: { node, endpoint, ips: addressesOf(endpoint) },
  };

  function misplaced(): Claim["misplaced"] {
    if (claimed.length === 0) return "no-address";
    if (claimed.some((ip) => subnets.some(({ gateway }) => gateway === ip))) return "gateway";
    const blocks = blocksOf(state, id);
    return claimed.every((ip) => blocks.around(ip)?.node === node) ? undefined : "not-in-block";
  }
}

const indexes = new WeakMap<ClusterState, Map<NetworkId, BlockIndex>>();
const NO_BLOCKS = new BlockIndex([]);

function blocksOf(state: ClusterState | undefined, network: NetworkId): BlockIndex {
  if (state === undefined) return NO_BLOCKS;
  let ofState = indexes.get(state);
  if (ofState === undefined) indexes.set(state, (ofState = new Map()));
  let index = ofState.get(network);
  if (index === undefined) {
    const blocks = state.blocks.filter((block) => block.network === network);
    ofState.set(network, (index = new BlockIndex(blocks)));
  }
  return index;
}

/** Its MAC follows from its address: nobody else can have a claim on it. */
export function derivesMac(endpoint: Endpoint): boolean {
  const [first] = claimedAddresses(endpoint);
  return first !== undefined && derivedMacs(first).includes(endpoint.mac);
}
