import { z } from "zod";
import { ClusterState, NetworkRecord, NodeRecord, Settings } from "../cluster-state.ts";
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
const Blocks = z.array(Cidr).min(1);

/** What the head says beside the objects' root. */
export interface StateName {
  readonly cluster: ClusterId;
  readonly revision: number;
}

/** The largest that is taken; the controller refuses what would be larger. */
export const MAX_OBJECT_BYTES = 64 * 1024;

export function contentOf(state: ClusterState): StateContent {
  const objects = new Map<ObjectKey, Uint8Array>();
  objects.set("settings", encodeCbor(state.settings));
  objects.set("controller", encodeCbor(state.controller));
  for (const node of state.nodes) objects.set(`node/${node.id}`, encodeCbor(node));
  for (const network of state.networks) objects.set(`network/${network.id}`, encodeCbor(network));
  // Being there is all that it says.
  for (const node of state.revoked) objects.set(`revoked/${node}`, encodeCbor(true));
  return { objects, blocks: blocksOf(state.blocks) };
}

/**
 * The state that the content says, in one order whatever its own is: nodes by index, networks by VNI, the rest by its text.
 * Objects of a kind that is not known are left out. @throws INVALID with the key of the one that cannot be read;
 * TOO_LARGE.
 */
export function stateOf({ cluster, revision }: StateName, content: StateContent): ClusterState {
  const nodes: NodeRecord[] = [];
  const networks: NetworkRecord[] = [];
  const revoked: NodeId[] = [];
  for (const [key, bytes] of content.objects) {
    const parts = keyParts(key);
    if (parts.kind === "node") nodes.push(read(key, bytes, NodeRecord));
    else if (parts.kind === "network") networks.push(read(key, bytes, NetworkRecord));
    else if (parts.kind === "revoked") revoked.push(parts.node);
  }
  const blocks = [...content.blocks].flatMap(([network, hosts]) =>
    [...hosts].flatMap(([node, bytes]) => {
      const given = read(`${blocksKey(network)}/${node}`, bytes, Blocks);
      return given.map((block) => ({ network, block, node }));
    }),
  );
  return ClusterState.parse({
    format: 1,
    cluster,
    revision,
    settings: readOnly(content.objects, "settings", Settings),
    controller: readOnly(content.objects, "controller", ClusterState.shape.controller),
    nodes: nodes.toSorted((a, b) => a.index - b.index || byText(a.id, b.id)),
    revoked: revoked.toSorted(byText),
    networks: networks.toSorted((a, b) => a.vni - b.vni || byText(a.id, b.id)),
    blocks: blocks.toSorted(
      (a, b) => byText(a.network, b.network) || byText(a.node, b.node) || byText(a.block, b.block),
    ),
  });
}

function blocksOf(blocks: ClusterState["blocks"]): StateContent["blocks"] {
  const given = new Map<NetworkId, Map<NodeId, Cidr[]>>();
  for (const { network, node, block } of blocks) {
    const hosts = given.get(network) ?? new Map<NodeId, Cidr[]>();
    given.set(network, hosts.set(node, [...(hosts.get(node) ?? []), block]));
  }
  const encoded = (hosts: ReadonlyMap<NodeId, Cidr[]>): NetworkBlocks =>
    new Map([...hosts].map(([node, own]) => [node, encodeCbor(own.toSorted(byText))]));
  return new Map([...given].map(([network, hosts]) => [network, encoded(hosts)]));
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
  const parsed = schema.safeParse(decodeCbor(bytes, MAX_OBJECT_BYTES));
  if (!parsed.success) throw invalid(key, parsed.error.issues[0]?.message ?? "it cannot be read");
  const { id } = parsed.data as { id?: NodeId | NetworkId };
  if (id !== undefined && !key.endsWith(`/${id}`)) throw invalid(key, `it is of ${id}`);
  return parsed.data;
}

function invalid(key: string, why: string): OverlayError {
  return new OverlayError({ code: "INVALID", message: `the state's object ${key}: ${why}` });
}
