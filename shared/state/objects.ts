import { z } from "zod";
import { BOUNDS } from "../bounds.ts";
import {
  type BlockRecord,
  ClusterState,
  NetworkRecord,
  NodeRecord,
  Settings,
} from "../cluster-state.ts";
import { decodeCbor, encodeCbor } from "../codec.ts";
import { OverlayError } from "../errors.ts";
import type { ClusterId, NetworkId, NodeId } from "../ids.ts";
import { Cidr } from "../ip.ts";
import { blocksKey, keyParts, type ObjectKey } from "./object-key.ts";

/** An object is its bytes, deterministic CBOR: what a host cannot read of it, it keeps and hands on. */
export type StateObjects = ReadonlyMap<string, Uint8Array>;

/** Of one network: by host, its blocks there. They travel apart, to hosts that need them. */
export type NetworkBlocks = ReadonlyMap<NodeId, Uint8Array>;

/** A whole state, or as much of its blocks as is held. */
export interface StateContent {
  readonly objects: StateObjects;
  readonly blocks: ReadonlyMap<NetworkId, NetworkBlocks>;
}

/** In the order of their text. */
const HostBlocks = z.array(Cidr).min(1);

/** What the head says beside the objects' root. */
export interface StateName {
  readonly cluster: ClusterId;
  readonly revision: number;
}

/** Being there is all that it says. */
const REVOKED = encodeCbor(true);

/** From one revision to the next most records are the same objects, and encoded once. */
const encoded = new WeakMap<object, Uint8Array>();

function bytesOf(record: object): Uint8Array {
  let bytes = encoded.get(record);
  if (bytes === undefined) encoded.set(record, (bytes = encodeCbor(record)));
  return bytes;
}

export function contentOf(state: ClusterState): StateContent {
  const objects = new Map<ObjectKey, Uint8Array>();
  objects.set("settings", bytesOf(state.settings));
  objects.set("controller", bytesOf(state.controller));
  for (const node of state.nodes) objects.set(`node/${node.id}`, bytesOf(node));
  for (const network of state.networks) objects.set(`network/${network.id}`, bytesOf(network));
  for (const node of state.revoked) objects.set(`revoked/${node}`, REVOKED);
  return { objects, blocks: blocksOf(state.blocks) };
}

/**
 * The state that the content says, in one order whatever its own is: nodes by index, networks by VNI, the rest by its text.
 * Objects of a kind that is not known are left out. @throws INVALID with the key of the one that cannot be read;
 * TOO_LARGE.
 */
export function stateOf(name: StateName, { objects, blocks }: StateContent): ClusterState {
  const settings = readOnly(objects, "settings", Settings);
  const controller = readOnly(objects, "controller", ClusterState.shape.controller);
  const nothing = { settings, controller, nodes: [], revoked: [], networks: [], blocks: [] };
  const state = stateWith(nothing, name, { put: [...objects], drop: [] }, blocks);
  return ClusterState.parse(state);
}

/** The same state in the order of `stateOf`, whoever told it: hosts compare and show lists of it. */
export function inOneOrder(state: ClusterState): ClusterState {
  const [nodes, networks] = [sorted(state.nodes, byIndex), sorted(state.networks, byVni)];
  const [revoked, blocks] = [sorted(state.revoked, byText), sorted(state.blocks, byPlace)];
  const isSame =
    nodes === state.nodes &&
    networks === state.networks &&
    revoked === state.revoked &&
    blocks === state.blocks;
  return isSame ? state : { ...state, nodes, networks, revoked, blocks };
}

/** The same list when it is in order. */
function sorted<T>(list: T[], order: (a: T, b: T) => number): T[] {
  const isInOrder = list.every((one, i) => i === 0 || order(list[i - 1]!, one) <= 0);
  return isInOrder ? list : list.toSorted(order);
}

/** Of a change of the objects, and of all blocks of those networks whose blocks are others. */
interface ObjectsChange {
  readonly put: readonly (readonly [string, Uint8Array])[];
  readonly drop: readonly string[];
}

/**
 * The state after a change: what is read is what changed, and the rest is the same objects as before. In the order of
 * `stateOf`. `blocks`: all of each network whose blocks are others now. @throws as `stateOf`
 */
export function stateWith(
  before: Omit<ClusterState, "format" | "cluster" | "revision">,
  { cluster, revision }: StateName,
  { put, drop }: ObjectsChange,
  blocks: ReadonlyMap<NetworkId, NetworkBlocks>,
): ClusterState {
  const other = new Set([...put.map(([key]) => key), ...drop]);
  const nodes: NodeRecord[] = [];
  const networks: NetworkRecord[] = [];
  const revoked: NodeId[] = [];
  let { settings, controller } = before;
  for (const [key, bytes] of put) {
    const parts = keyParts(key);
    if (parts.kind === "node") nodes.push(read(key, bytes, NodeRecord));
    else if (parts.kind === "network") networks.push(read(key, bytes, NetworkRecord));
    else if (parts.kind === "revoked") revoked.push(parts.node);
    else if (parts.kind === "settings") settings = read(key, bytes, Settings);
    else if (parts.kind === "controller")
      controller = read(key, bytes, ClusterState.shape.controller);
  }
  return {
    format: 1,
    cluster,
    revision,
    settings,
    controller,
    nodes: changed(before.nodes, ({ id }) => other.has(`node/${id}`), nodes, byIndex),
    revoked: changed(before.revoked, (id) => other.has(`revoked/${id}`), revoked, byText),
    networks: changed(before.networks, ({ id }) => other.has(`network/${id}`), networks, byVni),
    blocks: changed(before.blocks, ({ network }) => blocks.has(network), records(blocks), byPlace),
  };
}

function records(blocks: ReadonlyMap<NetworkId, NetworkBlocks>): BlockRecord[] {
  return [...blocks].flatMap(([network, hosts]) =>
    [...hosts].flatMap(([node, bytes]) => {
      const given = read(`${blocksKey(network)}/${node}`, bytes, HostBlocks);
      return given.map((block) => ({ network, block, node }));
    }),
  );
}

/** Without what is other now, with what came; the same list when it is neither. */
function changed<T>(
  before: T[],
  isOther: (one: T) => boolean,
  came: readonly T[],
  order: (a: T, b: T) => number,
): T[] {
  const kept = before.filter((one) => !isOther(one));
  if (came.length === 0 && kept.length === before.length) return before;
  return [...kept, ...came].toSorted(order);
}

function byIndex(a: NodeRecord, b: NodeRecord): number {
  return a.index - b.index || byText(a.id, b.id);
}

function byVni(a: NetworkRecord, b: NetworkRecord): number {
  return a.vni - b.vni || byText(a.id, b.id);
}

function byPlace(a: BlockRecord, b: BlockRecord): number {
  return byText(a.network, b.network) || byText(a.node, b.node) || byText(a.block, b.block);
}

function blocksOf(blocks: ClusterState["blocks"]): StateContent["blocks"] {
  const given = new Map<NetworkId, Map<NodeId, Cidr[]>>();
  for (const { network, node, block } of blocks) {
    const hosts = given.get(network) ?? new Map<NodeId, Cidr[]>();
    given.set(network, hosts.set(node, [...(hosts.get(node) ?? []), block]));
  }
  const asObjects = (hosts: ReadonlyMap<NodeId, Cidr[]>): NetworkBlocks =>
    new Map([...hosts].map(([node, own]) => [node, encodeCbor(own.toSorted(byText))]));
  return new Map([...given].map(([network, hosts]) => [network, asObjects(hosts)]));
}

function byText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function readOnly<T>(objects: StateObjects, key: ObjectKey, schema: z.ZodType<T>): T {
  const bytes = objects.get(key);
  if (bytes === undefined) throw invalid(key, "it is missing");
  return read(key, bytes, schema);
}

/** Its id is in its key, too, and both must be the same: the key is what was asked for. */
function read<T>(key: string, bytes: Uint8Array, schema: z.ZodType<T>): T {
  const parsed = schema.safeParse(decodeCbor(bytes, BOUNDS.stateBytes));
  if (!parsed.success) throw invalid(key, parsed.error.issues[0]?.message ?? "it cannot be read");
  const { id } = parsed.data as { id?: NodeId | NetworkId };
  if (id !== undefined && !key.endsWith(`/${id}`)) throw invalid(key, `it is of ${id}`);
  return parsed.data;
}

function invalid(key: string, why: string): OverlayError {
  return new OverlayError({ code: "INVALID", message: `the state's object ${key}: ${why}` });
}
