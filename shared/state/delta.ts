import { encodeCbor, equalBytes } from "../codec.ts";
import type { NetworkId, NodeId } from "../ids.ts";
import type { Hasher } from "../ports.ts";
import { type Leaf, leafOf, Leaves } from "./leaves.ts";
import { blocksKey } from "./object-key.ts";
import type { NetworkBlocks, StateContent, StateObjects } from "./objects.ts";

/**
 * From one revision to the next, in the order of their text: objects that are new or other, keys that are gone, and of
 * networks whose blocks are others the new leaf (null: no block is left). Every host needs it.
 */
export interface StateDelta {
  readonly put: readonly (readonly [string, Uint8Array])[];
  readonly drop: readonly string[];
  readonly blocks: readonly (readonly [NetworkId, Leaf | null])[];
}

/** Of one network's blocks, for hosts that keep them. What it leads to is held against the network's leaf. */
export interface BlocksDelta {
  readonly network: NetworkId;
  readonly put: readonly (readonly [NodeId, Uint8Array])[];
  readonly drop: readonly NodeId[];
}

export function deltaBetween(
  before: StateContent,
  after: StateContent,
  hasher: Hasher,
): StateDelta {
  const blocks = changedNetworks(before, after).map((network) => {
    const hosts = after.blocks.get(network);
    return [network, hosts === undefined ? null : blocksLeaves(hosts, hasher).root()] as const;
  });
  return { ...differences(before.objects, after.objects), blocks };
}

export function blocksDeltas(before: StateContent, after: StateContent): BlocksDelta[] {
  const none: NetworkBlocks = new Map();
  return changedNetworks(before, after).map((network) => ({
    network,
    ...differences(before.blocks.get(network) ?? none, after.blocks.get(network) ?? none),
  }));
}

/** As it travels, and what the head's hash of its changes is over. */
export function deltaBytes({ put, drop, blocks }: StateDelta): Uint8Array {
  return encodeCbor([put, drop, blocks]);
}

/** What the delta does to the leaves. */
export function leafChanges(
  { put, drop, blocks }: StateDelta,
  hasher: Hasher,
): (readonly [string, Leaf | undefined])[] {
  return [
    ...put.map(([key, bytes]) => [key, leafOf(bytes, hasher)] as const),
    ...drop.map((key) => [key, undefined] as const),
    ...blocks.map(([network, leaf]) => [blocksKey(network), leaf ?? undefined] as const),
  ];
}

/** Of a network's hosts; their root is the network's leaf. */
export function blocksLeaves(hosts: NetworkBlocks, hasher: Hasher): Leaves {
  return Leaves.none(hasher).with([...hosts].map(([node, bytes]) => [node, leafOf(bytes, hasher)]));
}

export function applied<K extends string>(
  objects: ReadonlyMap<K, Uint8Array>,
  { put, drop }: { put: readonly (readonly [K, Uint8Array])[]; drop: readonly K[] },
): Map<K, Uint8Array> {
  const after = new Map(objects);
  for (const [key, bytes] of put) after.set(key, bytes);
  for (const key of drop) after.delete(key);
  return after;
}

function changedNetworks(before: StateContent, after: StateContent): NetworkId[] {
  const all = new Set([...before.blocks.keys(), ...after.blocks.keys()]);
  const none: NetworkBlocks = new Map();
  const changed = [...all].filter((network) => {
    const [a, b] = [before, after].map(({ blocks }) => blocks.get(network) ?? none);
    const { put, drop } = differences(a!, b!);
    return put.length + drop.length > 0;
  });
  return changed.toSorted();
}

function differences<K extends string>(
  before: ReadonlyMap<K, Uint8Array>,
  after: ReadonlyMap<K, Uint8Array>,
): { put: (readonly [K, Uint8Array])[]; drop: K[] } {
  const put = [...after].filter(([key, bytes]) => {
    const held = before.get(key);
    return held === undefined || !equalBytes(held, bytes);
  });
  const drop = [...before.keys()].filter((key) => !after.has(key));
  return { put: put.toSorted(([a], [b]) => (a < b ? -1 : 1)), drop: drop.toSorted() };
}

/** All leaves of a state: its objects', and one for each network with blocks. */
export function leavesOf(content: StateContent, hasher: Hasher): Leaves {
  const none: { objects: StateObjects; blocks: StateContent["blocks"] } = {
    objects: new Map(),
    blocks: new Map(),
  };
  return Leaves.none(hasher).with(leafChanges(deltaBetween(none, content, hasher), hasher));
}
