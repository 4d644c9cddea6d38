import type { ClusterState, NetworkRecord } from "../../../shared/cluster-state.ts";
import {
  addressesOf,
  claimedAddresses,
  type Endpoint,
  type NetworkDocument,
} from "../../../shared/documents.ts";
import type { NetworkId, NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import { derivedMacs, type Mac, ruleMac } from "../../../shared/mac.ts";
import { BlockIndex } from "./block-index.ts";

/** An endpoint that holds under the rules, whose it is, and all it may speak from. */
export interface Holder {
  readonly node: NodeId;
  readonly endpoint: Endpoint;
  readonly ips: readonly Ip[];
}

export type Misplaced = "no-address" | "gateway" | "not-in-block";

/** An endpoint in its host's document, and what follows of it without any other document. */
export interface Claim {
  readonly claimed: readonly Ip[];
  readonly derivesMac: boolean;
  /** Why it is not where its host may put it. */
  readonly misplaced?: Misplaced;
  /** What it is when nothing speaks against it. */
  readonly holder: Holder;
}

type MisplacedClaim = Claim & { readonly misplaced: Misplaced };

/** What a document claims: what may hold, and what cannot. */
export interface Claims {
  readonly placed: readonly Claim[];
  readonly misplaced: readonly MisplacedClaim[];
  /** Of `placed`, in its order. */
  readonly holders: readonly Holder[];
}

/** On what a claim rests beside its endpoint. Never changed, only replaced. */
interface Ground {
  readonly state: ClusterState | undefined;
  readonly record: NetworkRecord;
}

/** Worked out once: a change of one endpoint leaves the others, in its document and elsewhere, as they were read. */
const ofDocuments = new WeakMap<NetworkDocument, Ground & { readonly claims: Claims }>();
const ofEndpoints = new WeakMap<
  Endpoint,
  Ground & { readonly node: NodeId; readonly claim: Claim }
>();

export function claimsOf(
  document: NetworkDocument,
  record: NetworkRecord,
  state: ClusterState | undefined,
): Claims {
  const held = ofDocuments.get(document);
  if (held?.record === record && held.state === state) return held.claims;
  const all = document.endpoints.map((endpoint) => claimOf(endpoint, document.node, record, state));
  const placed = all.filter(({ misplaced }) => misplaced === undefined);
  const claims: Claims = {
    placed,
    misplaced: all.filter((claim): claim is MisplacedClaim => claim.misplaced !== undefined),
    holders: placed.map(({ holder }) => holder),
  };
  ofDocuments.set(document, { state, record, claims });
  return claims;
}

function claimOf(
  endpoint: Endpoint,
  node: NodeId,
  record: NetworkRecord,
  state: ClusterState | undefined,
): Claim {
  const held = ofEndpoints.get(endpoint);
  if (held?.record === record && held.state === state && held.node === node) return held.claim;
  const claimed = claimedAddresses(endpoint);
  const misplaced = misplacedBy(claimed, node, record, state);
  const claim: Claim = {
    claimed,
    derivesMac: derivesMac(endpoint),
    ...(misplaced === undefined ? {} : { misplaced }),
    holder: { node, endpoint, ips: addressesOf(endpoint) },
  };
  ofEndpoints.set(endpoint, { state, record, node, claim });
  return claim;
}

function misplacedBy(
  claimed: readonly Ip[],
  node: NodeId,
  { id, subnets }: NetworkRecord,
  state: ClusterState | undefined,
): Misplaced | undefined {
  if (claimed.length === 0) return "no-address";
  if (claimed.some((ip) => subnets.some(({ gateway }) => gateway === ip))) return "gateway";
  const blocks = blocksOf(state, id);
  return claimed.every((ip) => blocks.around(ip)?.node === node) ? undefined : "not-in-block";
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

/** The bridge of each host has them. */
export function gatewayMacs({ subnets }: Pick<NetworkRecord, "subnets">): Mac[] {
  return subnets.map(({ gateway }) => ruleMac(gateway));
}
