import type { BlockRecord, NetworkRecord, SubnetRecord } from "../../shared/cluster-state.ts";
import { mayHost } from "../../shared/allowed.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import {
  type Cidr,
  cidrContains,
  ADDRESS_BITS,
  cidrContainsCidr,
  type Family,
  familyOf,
  hostCidr,
  type Ip,
  ipToNumber,
  rangeOf,
  toCidr,
} from "../../shared/ip.ts";
import { isDockersPart } from "../../shared/subnets.ts";
import { networkOf } from "./networks.ts";
import { vipBlocks } from "./vip-blocks.ts";
import { admittedNode, type ControllerRecord, type Transition, withState } from "./record.ts";

const FIRST_BLOCK_ADDRESSES = 8n;

/**
 * The host's next block of a network: 8 addresses, then as many as it has already. Where no run of
 * that size is free, the largest that is. @throws FULL, FORBIDDEN.
 */
export function allotBlock(
  record: ControllerRecord,
  node: NodeId,
  network: NetworkId,
  family: Family,
): Transition<BlockRecord> {
  const held = allowedNetwork(record, node, network);
  const blocks = takenOf(record, network);
  const taken = [...blocks.map(({ block }) => block), ...vipBlocks(record.state, network)];
  const subnet = held.subnets.find((candidate) => familyOf(candidate.subnet) === family);
  if (subnet === undefined)
    throw new OverlayError({
      code: "INVALID",
      message: `network ${held.name ?? held.id} has no IPv${family} subnet`,
      next: "make it with a --subnet of that family",
    });
  const inRanges = (block: Pick<BlockRecord, "block">): boolean =>
    subnet.dynamicRanges.some((range) => cidrContainsCidr(range, block.block));
  const own = blocks.filter((block) => block.node === node && inRanges(block));
  const size = own.reduce((sum, { block }) => sum + sizeOf(block), 0n);
  for (let want = powerOfTwo(size); want >= 1n; want /= 2n)
    for (const range of subnet.dynamicRanges) {
      const first = freeRun(rangeOf(range), want, taken, unusable(subnet));
      if (first === undefined) continue;
      const length = ADDRESS_BITS[family] - log2(want);
      const block: BlockRecord = { network, block: toCidr(first, length, family), node };
      return give(record, block);
    }
  throw new OverlayError({
    code: "FULL",
    message: `every address of ${subnet.dynamicRanges.join(", ")} is given to some host`,
    next: "stop containers that are not needed: empty blocks come back after some minutes",
  });
}

/**
 * `--ip`: one address for this host. Also in the part of the subnet that is Docker's on this host,
 * while another may become that (`nameNetwork`): a container that runs keeps its address.
 * @throws CONFLICT with the host that has it, INVALID.
 */
export function grantAddress(
  record: ControllerRecord,
  node: NodeId,
  network: NetworkId,
  ip: Ip,
): Transition<BlockRecord> {
  const held = allowedNetwork(record, node, network);
  const subnet = held.subnets.find((candidate) => cidrContains(candidate.subnet, ip));
  if (subnet === undefined || isEdge(subnet.subnet, ip) || subnet.gateway === ip)
    throw new OverlayError({
      code: "INVALID",
      message: `${ip} is no host address of ${held.subnets.map((s) => s.subnet).join(", ")}`,
      next: "choose another --ip, or none",
    });
  if (subnet.reserved?.includes(ip) === true)
    throw new OverlayError({
      code: "CONFLICT",
      message: `${ip} is reserved (--aux-address) on network ${held.name ?? held.id}`,
      next: "choose another --ip, or none",
    });
  const kept = vipBlocks(record.state, network).find((block) => cidrContains(block, ip));
  if (kept !== undefined)
    throw new OverlayError({
      code: "CONFLICT",
      message: `${ip} is kept for virtual addresses of network ${held.name ?? held.id} (${kept})`,
      next: "choose another --ip, or none; `overlay-ts vip ls` shows them",
    });
  const around = takenOf(record, network).filter(({ block }) => cidrContains(block, ip));
  const moves = ({ block }: BlockRecord): boolean =>
    held.name === undefined && isDockersPart(held.subnets, block);
  const own = record.state.blocks.find(
    (block) => around.includes(block) && block.node === node && !moves(block),
  );
  if (own !== undefined) return give(record, own);
  const holder = around.find((block) => block.node !== node);
  const name = record.state.nodes.find(({ id }) => id === holder?.node)?.name;
  if (holder !== undefined && name === undefined)
    throw new OverlayError({
      code: "CONFLICT",
      message: `${ip} belonged to ${holder.node === undefined ? "a virtual address" : "a host"} that was removed, and cannot be assigned for some minutes (${holder.block})`,
      next: "wait, or choose another --ip",
    });
  if (holder !== undefined && name !== undefined) {
    throw new OverlayError({
      code: "CONFLICT",
      message: `${ip} belongs to the addresses of host ${name} (${holder.block})`,
      next: nextWhenTaken(subnet, holder.block, name),
    });
  }
  const block: BlockRecord = { network, block: hostCidr(ip), node };
  return give(record, block);
}

/**
 * Also one that the host has: it asks for it when it does not know whether its word that it gives it back has come, and a
 * new revision tells that word from what the host says from now on.
 */
function give(record: ControllerRecord, block: BlockRecord): Transition<BlockRecord> {
  const { blocks } = record.state;
  const isNew = !blocks.includes(block);
  const given = withState(record, isNew ? { blocks: [...blocks, block] } : {});
  const there = new Set(blocks.map(blockKey));
  const kept = Object.entries(record.givenAt ?? {}).filter(([key]) => there.has(key));
  const givenAt = { ...Object.fromEntries(kept), [blockKey(block)]: given.state.revision };
  return { record: { ...given, givenAt }, result: block };
}

function blockKey({ network, block }: Pick<BlockRecord, "network" | "block">): string {
  return `${network} ${block}`;
}

function nextWhenTaken(subnet: SubnetRecord, taken: Cidr, holder: string): string {
  const ranges = subnet.dynamicRanges.join(", ");
  return isDockersPart([subnet], taken)
    ? `start the container on ${holder}, choose a high address of ${ranges}, or make the network with the IPAM driver overlay-ts`
    : `start the container on ${holder}, or choose an address outside ${ranges}`;
}

/** Blocks of hosts, and those that nobody may have yet. */
export function takenOf(
  record: ControllerRecord,
  network: NetworkId,
): readonly (Omit<BlockRecord, "node"> & { readonly node?: NodeId | undefined })[] {
  const all = [...record.state.blocks, ...(record.quarantine ?? [])];
  return all.filter((block) => block.network === network);
}

/**
 * The host no longer uses the block. What is not its own is left alone, and what it was given since it asked: a request
 * that was long on its way is of an earlier gift of the same block.
 * @param holds the revision that the host had when it asked; undefined: of 0.1.0 it is not known
 */
export function returnBlock(
  record: ControllerRecord,
  node: NodeId,
  network: NetworkId,
  block: Cidr,
  holds?: number,
): Transition<undefined> {
  const givenAt = record.givenAt?.[blockKey({ network, block })] ?? 0;
  if (holds !== undefined && givenAt > holds) return { record, result: undefined };
  const blocks = record.state.blocks.filter(
    (held) => !(held.network === network && held.node === node && held.block === block),
  );
  if (blocks.length === record.state.blocks.length) return { record, result: undefined };
  return { record: withState(record, { blocks }), result: undefined };
}

/** @throws NOT_FOUND, UNAUTHENTICATED, FORBIDDEN. */
export function allowedNetwork(
  record: ControllerRecord,
  node: NodeId,
  network: NetworkId,
): NetworkRecord {
  const admitted = admittedNode(record, node);
  const held = networkOf(record.state, network);
  if (!mayHost(record.state, node, network))
    throw new OverlayError({
      code: "FORBIDDEN",
      message: `host ${admitted.name} is not allowed on network ${held.name ?? held.id}`,
      next: "`overlay-ts leave` there, `overlay-ts node rm` on the controller's host, then join it with a token that names the network (`overlay-ts token create --network`)",
    });
  return held;
}

/** The lowest aligned run of `size` free addresses in the range; never one with nothing usable. */
function freeRun(
  range: { first: bigint; last: bigint },
  size: bigint,
  blocks: readonly Cidr[],
  unusable: readonly bigint[],
): bigint | undefined {
  const taken = blocks.map(rangeOf);
  for (let at = alignUp(range.first, size); at + size - 1n <= range.last;) {
    const end = at + size - 1n;
    const clash = taken.find(({ first, last }) => first <= end && at <= last);
    if (clash === undefined) {
      const lost = unusable.filter((address) => at <= address && address <= end).length;
      if (BigInt(lost) < size) return at;
      at += size;
    } else at = alignUp(clash.last + 1n, size);
  }
  return undefined;
}

/** Each once: what no container can have. */
export function unusable({ subnet, gateway, reserved = [] }: SubnetRecord): bigint[] {
  const { first, last, family } = rangeOf(subnet);
  const edges = family === 4 ? [first, last] : [first];
  return [...new Set([...edges, ipToNumber(gateway), ...reserved.map(ipToNumber)])];
}

function sizeOf(block: Cidr): bigint {
  const { first, last } = rangeOf(block);
  return last - first + 1n;
}

function alignUp(value: bigint, size: bigint): bigint {
  return ((value + size - 1n) / size) * size;
}

function powerOfTwo(size: bigint): bigint {
  let power = FIRST_BLOCK_ADDRESSES;
  while (power < size) power *= 2n;
  return power;
}

function log2(power: bigint): number {
  return power.toString(2).length - 1;
}

/** Network and broadcast address of an IPv4 subnet; the subnet-router anycast of an IPv6 one. */
export function isEdge(subnet: Cidr, ip: Ip): boolean {
  const { first, last, family } = rangeOf(subnet);
  const value = ipToNumber(ip);
  return value === first || (family === 4 && value === last);
}
