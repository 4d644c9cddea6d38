import { z } from "zod";
import { BOUNDS } from "../bounds.ts";
import {
  type BlockRecord,
  ClusterState,
  NetworkRecord,
  NextNumbers,
  NodeRecord,
  Settings,
  VipRecord,
} from "../cluster-state.ts";
import { decodeCbor, encodeCbor, equalBytes } from "../codec.ts";
import { OverlayError } from "../errors.ts";
import type { ClusterId, NetworkId, NodeId } from "../ids.ts";
import { Cidr } from "../ip.ts";
import { blocksKey, keyParts, type ObjectKey, vipKey } from "./object-key.ts";
import type { StateChange } from "./object-tree.ts";
import { byText, changed, FEW, noteOrder, placeOf, sorted } from "./ordered-list.ts";

/** In the order of their text. */
const HostBlocks = z.array(Cidr).min(1);

/** What the head says beside the objects' root. */
export interface StateName {
  readonly cluster: ClusterId;
  readonly revision: number;
}

/** Being there is all that it says. */
const REVOKED = encodedObject(true);

/** From one revision to the next most records are the same objects, and encoded once. */
const encoded = new WeakMap<object, Uint8Array>();

function bytesOf(record: object): Uint8Array {
  let bytes = encoded.get(record);
  if (bytes === undefined) encoded.set(record, (bytes = encodedObject(record)));
  return bytes;
}

/** Of its own size: it is kept for as long as it is the state's. */
function encodedObject(value: unknown): Uint8Array {
  return new Uint8Array(encodeCbor(value));
}

const NO_VIPS: VipRecord[] = [];
/** Objects that are there at most once. */
const ONCE = ["settings", "controller", "numbers"] as const;

export function objectsOf(state: ClusterState): Map<ObjectKey, Uint8Array> {
  const objects = new Map<ObjectKey, Uint8Array>();
  for (const key of ONCE) if (state[key] !== undefined) objects.set(key, bytesOf(state[key]));
  for (const node of state.nodes) objects.set(`node/${node.id}`, bytesOf(node));
  for (const network of state.networks) objects.set(`network/${network.id}`, bytesOf(network));
  for (const node of state.revoked) objects.set(`revoked/${node}`, REVOKED);
  for (const [key, given] of blocksByKey(state.blocks)) objects.set(key, bytesOfBlocks(given));
  for (const vip of state.vips ?? []) objects.set(vipKey(vip), bytesOf(vip));
  return objects;
}

/** From one state to the next. What both have as the same record is not looked into: the rest is what costs. */
export function changeBetween(before: ClusterState, after: ClusterState): StateChange {
  const put = new Map<ObjectKey, Uint8Array>();
  const gone = new Set<ObjectKey>();
  for (const key of ONCE) {
    const [was, is] = [before[key], after[key]];
    if (was !== undefined) gone.add(key);
    if (is !== undefined) differ({ put, gone }, [key, was], [key, is]);
  }
  const records = <T extends object>(was: T[], is: T[], keyOf: (record: T) => ObjectKey): void => {
    const [left, right] = unlike(was, is);
    const held = new Map(left.map((record) => [keyOf(record), record]));
    for (const key of held.keys()) gone.add(key);
    for (const record of right) {
      const key = keyOf(record);
      differ({ put, gone }, [key, held.get(key)], [key, record]);
    }
  };
  records(before.nodes, after.nodes, ({ id }) => `node/${id}`);
  records(before.networks, after.networks, ({ id }) => `network/${id}`);
  records(before.vips ?? NO_VIPS, after.vips ?? NO_VIPS, vipKey);
  const [outBefore, outAfter] = [new Set(before.revoked), new Set(after.revoked)];
  for (const id of after.revoked) if (!outBefore.has(id)) put.set(`revoked/${id}`, REVOKED);
  for (const id of before.revoked) if (!outAfter.has(id)) gone.add(`revoked/${id}`);
  changedBlocks(before.blocks, after.blocks, { put, gone });
  return {
    put: [...put].toSorted(([a], [b]) => byText(a, b)),
    drop: [...gone].toSorted(),
  };
}

interface Difference {
  readonly put: Map<ObjectKey, Uint8Array>;
  readonly gone: Set<ObjectKey>;
}

function differ(
  { put, gone }: Difference,
  [key, was]: readonly [ObjectKey, object | undefined],
  [, is]: readonly [ObjectKey, object],
): void {
  gone.delete(key);
  if (was === is) return;
  const bytes = bytesOf(is);
  if (was === undefined || !equalBytes(bytesOf(was), bytes)) put.set(key, bytes);
}

/** What is left of two lists without the records that both begin with, and end with. */
function unlike<T>(a: readonly T[], b: readonly T[]): [T[], T[]] {
  const most = Math.min(a.length, b.length);
  let [begin, end] = [0, 0];
  while (begin < most && a[begin] === b[begin]) begin++;
  while (end < most - begin && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  return [a.slice(begin, a.length - end), b.slice(begin, b.length - end)];
}

/** One host's blocks of one network are one object, so all of them are looked at where one is another. */
function changedBlocks(
  before: BlockRecord[],
  after: BlockRecord[],
  { put, gone }: Difference,
): void {
  const touched = new Map<NetworkId, Set<NodeId>>();
  for (const { network, node } of unlike(before, after).flat()) {
    const nodes = touched.get(network) ?? new Set();
    touched.set(network, nodes.add(node));
  }
  if (touched.size === 0) return;
  const isTouched = ({ network, node }: BlockRecord): boolean =>
    touched.get(network)?.has(node) === true;
  const [was, is] = [before, after].map((blocks) => blocksByKey(blocks.filter(isTouched)));
  for (const key of was!.keys()) if (!is!.has(key)) gone.add(key);
  for (const [key, given] of is!) {
    const [bytes, held] = [bytesOfBlocks(given), was!.get(key)];
    if (held === undefined || !equalBytes(bytesOfBlocks(held), bytes)) put.set(key, bytes);
  }
}

/**
 * The state that the objects say, in one order whatever their own is: nodes by index, networks by VNI, the rest by its text.
 * Objects of a kind that is not known are left out. @throws INVALID with the key of the one that cannot be read;
 * TOO_LARGE.
 */
export function stateOf(
  name: StateName,
  objects: Iterable<readonly [string, Uint8Array]>,
): ClusterState {
  const put = [...objects];
  const settings = readOnly(put, "settings", Settings);
  const controller = readOnly(put, "controller", ClusterState.shape.controller);
  const nothing = { settings, controller, nodes: [], revoked: [], networks: [], blocks: [] };
  return ClusterState.parse(stateWith(nothing, name, { put, drop: [] }));
}

/** The same state in the order of `stateOf`, whoever told it: hosts compare and show lists of it. */
export function inOneOrder(state: ClusterState): ClusterState {
  const [nodes, networks] = [sorted(state.nodes, byIndex), sorted(state.networks, byVni)];
  const [revoked, blocks] = [sorted(state.revoked, byText), sorted(state.blocks, byPlace)];
  const vips = state.vips && sorted(state.vips, byName);
  const isSame =
    nodes === state.nodes &&
    networks === state.networks &&
    revoked === state.revoked &&
    blocks === state.blocks &&
    vips === state.vips;
  if (isSame) return state;
  return { ...state, nodes, networks, revoked, blocks, ...(vips && { vips }) };
}

/**
 * The state after a change: what is read is what changed, and the rest is the same objects as before. In the order of
 * `stateOf`, as the one before is. @throws as `stateOf`
 */
export function stateWith(
  before: Omit<ClusterState, "format" | "cluster" | "revision">,
  { cluster, revision }: StateName,
  { put, drop }: StateChange,
): ClusterState {
  const came = { nodes: new Array<NodeRecord>(), networks: new Array<NetworkRecord>() };
  const [revoked, blocks, vips]: [NodeId[], BlockRecord[], VipRecord[]] = [[], [], []];
  let { settings, controller, numbers } = before;
  if (drop.includes("numbers")) numbers = undefined;
  for (const [key, bytes] of put) {
    const parts = keyParts(key);
    if (parts.kind === "node") came.nodes.push(read(key, bytes, NodeRecord));
    else if (parts.kind === "network") came.networks.push(read(key, bytes, NetworkRecord));
    else if (parts.kind === "revoked") revoked.push(parts.node);
    else if (parts.kind === "blocks") blocks.push(...blocksIn(parts, key, bytes));
    else if (parts.kind === "vip") vips.push(vipIn(key, bytes));
    else if (parts.kind === "numbers") numbers = read(key, bytes, NextNumbers);
    else if (parts.kind === "settings") settings = read(key, bytes, Settings);
    else if (parts.kind === "controller")
      controller = read(key, bytes, ClusterState.shape.controller);
  }
  const other = [...put.map(([key]) => key), ...drop].map(keyParts);
  const others = (kind: "node" | "revoked"): Set<NodeId> =>
    new Set(other.flatMap((parts) => (parts.kind === kind ? [parts.node] : [])));
  const [nodes, out] = [others("node"), others("revoked")];
  const networks = new Set(
    other.flatMap((parts) => (parts.kind === "network" ? [parts.network] : [])),
  );
  const places = other.filter((parts) => parts.kind === "blocks");
  const named = new Set(other.flatMap((parts) => (parts.kind === "vip" ? [vipKey(parts)] : [])));
  const isOther = (vip: VipRecord): boolean => named.has(vipKey(vip));
  const allVips = changed(before.vips ?? NO_VIPS, named.size, isOther, vips, byName);
  return {
    format: 1,
    cluster,
    revision,
    settings,
    controller,
    nodes: changed(before.nodes, nodes.size, ({ id }) => nodes.has(id), came.nodes, byIndex),
    revoked: changed(before.revoked, out.size, (id) => out.has(id), revoked, byText),
    networks: changed(
      before.networks,
      networks.size,
      ({ id }) => networks.has(id),
      came.networks,
      byVni,
    ),
    blocks: changedPlaces(before.blocks, places, blocks),
    ...(allVips.length === 0 ? {} : { vips: allVips }),
    ...(numbers && { numbers }),
  };
}

function vipIn(key: string, bytes: Uint8Array): VipRecord {
  const vip = read(key, bytes, VipRecord);
  if (vipKey(vip) !== key) throw invalid(key, `it is of ${vip.name} on ${vip.network}`);
  return vip;
}

function blocksIn(
  { network, node }: { network: NetworkId; node: NodeId },
  key: string,
  bytes: Uint8Array,
): BlockRecord[] {
  return read(key, bytes, HostBlocks).map((block) => ({ network, block, node }));
}

type Place = Pick<BlockRecord, "network" | "node">;

/** As `changed`: one host's blocks of a network lie beside each other. */
function changedPlaces(
  before: BlockRecord[],
  places: readonly Place[],
  came: readonly BlockRecord[],
): BlockRecord[] {
  if (places.length > FEW) {
    const others = new Set(places.map(({ network, node }) => blocksKey(network, node)));
    const isOther = ({ network, node }: Place): boolean => others.has(blocksKey(network, node));
    return changed(before, others.size, isOther, came, byPlace);
  }
  if (places.length === 0) return before;
  const all = before.slice();
  for (const place of places) {
    const isOther = ({ network, node }: Place): boolean =>
      network === place.network && node === place.node;
    const at = placeOf(all, place, (a, b) => byHost(a, b) || 1);
    let end = at;
    while (end < all.length && isOther(all[end]!)) end++;
    all.splice(at, end - at, ...came.filter(isOther).toSorted(byPlace));
  }
  noteOrder(all);
  return all;
}

function byIndex(a: NodeRecord, b: NodeRecord): number {
  return a.index - b.index || byText(a.id, b.id);
}

function byVni(a: NetworkRecord, b: NetworkRecord): number {
  return a.vni - b.vni || byText(a.id, b.id);
}

function byName(a: VipRecord, b: VipRecord): number {
  return byText(a.network, b.network) || byText(a.name, b.name);
}

function byHost(a: Place, b: Place): number {
  return byText(a.network, b.network) || byText(a.node, b.node);
}

function byPlace(a: BlockRecord, b: BlockRecord): number {
  return byHost(a, b) || byText(a.block, b.block);
}

function blocksByKey(blocks: readonly BlockRecord[]): Map<ObjectKey, Cidr[]> {
  const given = new Map<ObjectKey, Cidr[]>();
  for (const { network, node, block } of blocks) {
    const key = blocksKey(network, node);
    const own = given.get(key);
    if (own === undefined) given.set(key, [block]);
    else own.push(block);
  }
  return given;
}

function bytesOfBlocks(given: readonly Cidr[]): Uint8Array {
  return encodedObject(given.toSorted(byText));
}

function readOnly<T>(
  objects: readonly (readonly [string, Uint8Array])[],
  key: ObjectKey,
  schema: z.ZodType<T>,
): T {
  const bytes = objects.find(([held]) => held === key)?.[1];
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
