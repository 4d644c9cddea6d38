import { BOUNDS } from "../../shared/bounds.ts";
import type {
  NetworkRecord,
  SubnetRecord,
  VipMaker,
  VipRecord,
} from "../../shared/cluster-state.ts";
import { canonicalName, isLabel } from "../../shared/dns-name.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import {
  ADDRESS_BITS,
  type Cidr,
  cidrContainsCidr,
  hostCidr,
  type Ip,
  ipToNumber,
  numberToIp,
  rangeOf,
  toCidr,
} from "../../shared/ip.ts";
import { oneLine } from "../../shared/text.ts";
import { allowedNetwork, takenOf, unusable } from "./blocks.ts";
import { QUARANTINE_MS, quarantined } from "./quarantine.ts";
import type { Context, ControllerRecord, Transition } from "./record.ts";
import { withState } from "./record.ts";
import { vipBlocks } from "./vip-blocks.ts";

/** Of what hosts may be given, one in so many addresses is the most that one block for virtual ones takes. */
const SHARE = 8n;
const MOST_BLOCK_ADDRESSES = 8n;

export interface VipRequest {
  readonly network: NetworkId;
  readonly name: string;
  readonly sticky: boolean;
  readonly madeBy: VipMaker;
}

/**
 * The name's virtual address, once: asked for again it is the same. What an admin asks for stays, and is as he says; what
 * labels ask for changes nothing that is there.
 * @throws INVALID, FULL, FORBIDDEN, NOT_FOUND
 */
export function addVip(
  record: ControllerRecord,
  node: NodeId,
  { network, name: asked, sticky, madeBy }: VipRequest,
): Transition<VipRecord> {
  const held = allowedNetwork(record, node, network);
  const name = canonicalName(asked);
  if (!isLabel(name)) throw notALabel(asked);
  const vips = record.state.vips ?? [];
  const there = vips.find((vip) => vip.network === network && vip.name === name);
  if (there !== undefined) {
    const isAsAsked = madeBy !== "cli" || (there.madeBy === "cli" && there.sticky === sticky);
    if (isAsAsked) return { record, result: there };
    const changed: VipRecord = { ...there, sticky, madeBy };
    return {
      record: withVips(
        record,
        vips.map((vip) => (vip === there ? changed : vip)),
      ),
      result: changed,
    };
  }
  checkRoom(held, vips);
  const given = held.subnets.map((subnet) => freeAddress(record, held, subnet));
  const vip: VipRecord = {
    network,
    name,
    ips: given.map(({ ip }) => ip),
    blocks: given.map(({ block }) => block),
    sticky,
    madeBy,
  };
  return { record: withVips(record, [...vips, vip]), result: vip };
}

/** The admin's. @throws NOT_FOUND, FORBIDDEN */
export function removeVip(
  record: ControllerRecord,
  node: NodeId,
  network: NetworkId,
  asked: string,
  context: Pick<Context, "wallMs">,
): Transition<undefined> {
  const held = allowedNetwork(record, node, network);
  const name = canonicalName(asked);
  const vip = record.state.vips?.find((one) => one.network === network && one.name === name);
  if (vip === undefined)
    throw new OverlayError({
      code: "NOT_FOUND",
      message: `network ${held.name ?? network} has no virtual address for ${oneLine(name, 64)}`,
      next: "see `overlay-ts vip ls`",
    });
  return { record: without(record, vip, context), result: undefined };
}

/**
 * Nobody has had the name for a while: what labels or the network asked for ends. Of what an admin made, and what is no more,
 * nothing is to do. @throws FORBIDDEN, NOT_FOUND: of the network
 */
export function endVip(
  record: ControllerRecord,
  node: NodeId,
  network: NetworkId,
  name: string,
  context: Pick<Context, "wallMs">,
): Transition<undefined> {
  allowedNetwork(record, node, network);
  const vip = record.state.vips?.find((one) => one.network === network && one.name === name);
  if (vip === undefined || vip.madeBy === "cli") return { record, result: undefined };
  return { record: without(record, vip, context), result: undefined };
}

/** Who has not heard of it yet sends to its addresses: nobody gets them for a while. */
function without(
  record: ControllerRecord,
  vip: VipRecord,
  { wallMs }: Pick<Context, "wallMs">,
): ControllerRecord {
  const { network, ips } = vip;
  const blocks = ips.map((ip) => ({ network, block: hostCidr(ip) }));
  const vips = (record.state.vips ?? []).filter((one) => one !== vip);
  return quarantined(withVips(record, vips), blocks, wallMs + QUARANTINE_MS);
}

function withVips(record: ControllerRecord, vips: VipRecord[]): ControllerRecord {
  const { vips: _, ...state } = record.state;
  return withState({ ...record, state }, vips.length === 0 ? {} : { vips });
}

function checkRoom(held: NetworkRecord, vips: readonly VipRecord[]): void {
  // Docker's part of the subnet is known from then on.
  if (held.name === undefined)
    throw new OverlayError({
      code: "NOT_FOUND",
      message: `network ${held.id} has no name yet: the engine it was made on has not told it`,
      next: "try again in a moment",
    });
  const own = vips.filter(({ network }) => network === held.id).length;
  if (own >= BOUNDS.vipsOfNetwork)
    throw full(`network ${held.name} has ${own} virtual addresses, the most it can have`);
  if (vips.length >= BOUNDS.vips)
    throw full(`the cluster has ${vips.length} virtual addresses, the most it can have`);
}

/** In a block that is kept for virtual addresses already, else in a new one. @throws FULL */
function freeAddress(
  record: ControllerRecord,
  { id, name = id }: NetworkRecord,
  subnet: SubnetRecord,
): { readonly ip: Ip; readonly block: Cidr } {
  const vips = (record.state.vips ?? []).filter(({ network }) => network === id);
  const taken = takenOf(record, id).map(({ block }) => rangeOf(block));
  const used = new Set([
    ...unusable(subnet),
    ...vips.flatMap(({ ips }) => ips.map(ipToNumber)),
    // A block of one address: that of a virtual address that ended.
    ...taken.flatMap(({ first, last }) => (first === last ? [first] : [])),
  ]);
  const { family } = rangeOf(subnet.subnet);
  const kept = vipBlocks(record.state, id).filter((block) =>
    cidrContainsCidr(subnet.subnet, block),
  );
  for (const block of kept) {
    const { first, last } = rangeOf(block);
    for (let at = first; at <= last; at++)
      if (!used.has(at)) return { ip: numberToIp(at, family), block };
  }
  const clashes = [...taken, ...kept.map(rangeOf)];
  const ranges = subnet.dynamicRanges.map(rangeOf);
  const size = ranges.reduce((sum, { first, last }) => sum + last - first + 1n, 0n);
  for (let want = largestBlock(size); want >= 1n; want /= 2n)
    for (const range of ranges.toReversed()) {
      const found = lastFreeRun(range, want, clashes, used);
      if (found === undefined) continue;
      const length = ADDRESS_BITS[family] - (want.toString(2).length - 1);
      return {
        ip: numberToIp(found.address, family),
        block: toCidr(found.first, length, family),
      };
    }
  throw full(
    `network ${name} has no address for another virtual one: every other of ${subnet.dynamicRanges.join(", ")} is given to some host`,
  );
}

interface Range {
  readonly first: bigint;
  readonly last: bigint;
}

/** The highest aligned run of free addresses in the range, and its first that may be used: hosts' blocks begin at the other end. */
function lastFreeRun(
  range: Range,
  size: bigint,
  taken: readonly Range[],
  used: ReadonlySet<bigint>,
): { readonly first: bigint; readonly address: bigint } | undefined {
  let first = alignedDown(range.last + 1n - size, size);
  while (first >= range.first) {
    const last = first + size - 1n;
    const clash = taken.find((held) => held.first <= last && first <= held.last);
    if (clash !== undefined) first = alignedDown(clash.first - size, size);
    else {
      for (let address = first; address <= last; address++)
        if (!used.has(address)) return { first, address };
      first -= size;
    }
  }
  return undefined;
}

/** Below zero it is below every range. */
function alignedDown(value: bigint, size: bigint): bigint {
  return value < 0n ? -1n : (value / size) * size;
}

function largestBlock(size: bigint): bigint {
  let want = MOST_BLOCK_ADDRESSES;
  while (want > 1n && want * SHARE > size) want /= 2n;
  return want;
}

function notALabel(asked: string): OverlayError {
  return new OverlayError({
    code: "INVALID",
    message: `${oneLine(asked, 64)} is not one label of a name`,
    next: "give up to 63 letters, digits, - and _, as in `--network-alias`",
  });
}

function full(message: string): OverlayError {
  return new OverlayError({
    code: "FULL",
    message,
    next: "remove virtual addresses that nobody needs (`overlay-ts vip ls`, `vip rm`): theirs is free after ten minutes; or make the network with a larger --subnet",
  });
}
