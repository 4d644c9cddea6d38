import type { NetworkRecord } from "../../../shared/cluster-state.ts";
import {
  addressesOf,
  claimedAddresses,
  type Endpoint,
  type NetworkDocument,
} from "../../../shared/documents.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import { derivedMacs, type Mac, ruleMac } from "../../../shared/mac.ts";
import type { BlockIndex } from "./block-index.ts";
import { changedPart, heldOn } from "./changed-part.ts";
import type { Addressed } from "./kernel-state.ts";

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
  /** The same, as kernel and guards know it: another object only when that is another. */
  readonly addressed: Addressed;
}

type MisplacedClaim = Claim & { readonly misplaced: Misplaced };

/** What a document claims: what may hold, and what cannot. */
export interface Claims {
  readonly document: NetworkDocument;
  /** By which it was decided. */
  readonly blocks: BlockIndex;
  /** In the document's order, as the rest. */
  readonly all: readonly Claim[];
  readonly placed: readonly Claim[];
  readonly misplaced: readonly MisplacedClaim[];
  /** Of `placed`. */
  readonly holders: readonly Holder[];
  /** Of `placed`; the list of before when but names or health have changed. */
  readonly addressed: readonly Addressed[];
}

/**
 * What an endpoint claims follows from it, from its network's record and from its blocks: whatever of these is the
 * same is not asked again.
 * @param before of the host's last document on this network, under the same record. The same lists, when nothing in them is other
 */
export function claimsOf(
  document: NetworkDocument,
  record: NetworkRecord,
  blocks: BlockIndex,
  before: Claims | undefined,
): Claims {
  const { endpoints, node } = document;
  const isSameGround = before?.blocks === blocks;
  if (isSameGround && before?.document === document) return before;
  const held = before?.document.endpoints ?? [];
  const part = isSameGround
    ? changedPart(held, endpoints)
    : { start: 0, before: held, after: endpoints };
  const { start } = part;
  const end = start + part.before.length;
  const was = before?.all.slice(start, end) ?? [];
  const replaced = new Map(was.map((claim) => [claim.holder.endpoint.id, claim]));
  const made = part.after.map((endpoint) => {
    const known = replaced.get(endpoint.id);
    if (isSameGround && known?.holder.endpoint === endpoint) return known;
    return claimOf(endpoint, node, record, blocks, known);
  });
  const all = before === undefined ? made : before.all.toSpliced(start, was.length, ...made);
  if (before !== undefined && heldOn(before.all, all) === before.all)
    return { ...before, document, blocks };
  const wereAllPlaced = before === undefined || before.placed === before.all;
  const misplaced = wereAllPlaced ? made.filter(isMisplaced) : all.filter(isMisplaced);
  const placed = misplaced.length === 0 ? all : all.filter((claim) => !isMisplaced(claim));
  const isWhole = placed === all && wereAllPlaced;
  // Beside the part they are those of before.
  const carried = <T>(old: readonly T[] | undefined, of: (claim: Claim) => T): readonly T[] =>
    old === undefined || !isWhole
      ? placed.map(of)
      : old.toSpliced(start, was.length, ...made.map(of));
  return {
    document,
    blocks,
    all,
    placed,
    misplaced,
    holders: carried(before?.holders, ({ holder }) => holder),
    addressed: heldOn(
      before?.addressed,
      carried(before?.addressed, ({ addressed }) => addressed),
    ),
  };
}

function isMisplaced(claim: Claim): claim is MisplacedClaim {
  return claim.misplaced !== undefined;
}

function claimOf(
  endpoint: Endpoint,
  node: NodeId,
  record: NetworkRecord,
  blocks: BlockIndex,
  before: Claim | undefined,
): Claim {
  const isKnown = before?.holder.endpoint === endpoint;
  const claimed = isKnown ? before.claimed : claimedAddresses(endpoint);
  const misplaced = misplacedBy(claimed, node, record, blocks);
  if (isKnown && before.misplaced === misplaced) return before;
  const addressed = addressedOf(endpoint, before);
  return {
    claimed,
    derivesMac: derivesMac(endpoint),
    ...(misplaced === undefined ? {} : { misplaced }),
    holder: { node, endpoint, ips: addressed.ips },
    addressed,
  };
}

function addressedOf(endpoint: Endpoint, before: Claim | undefined): Addressed {
  const { mac, ipv4, ipv6 } = endpoint;
  const was = before?.holder.endpoint;
  const isSame = was?.mac === mac && was.ipv4 === ipv4 && was.ipv6 === ipv6;
  return isSame && before !== undefined ? before.addressed : { mac, ips: addressesOf(endpoint) };
}

function misplacedBy(
  claimed: readonly Ip[],
  node: NodeId,
  { subnets }: NetworkRecord,
  blocks: BlockIndex,
): Misplaced | undefined {
  if (claimed.length === 0) return "no-address";
  if (claimed.some((ip) => subnets.some(({ gateway }) => gateway === ip))) return "gateway";
  return claimed.every((ip) => blocks.around(ip)?.node === node) ? undefined : "not-in-block";
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
