import { z } from "zod";
import {
  BlockRecord,
  ClusterState,
  DEFAULT_SETTINGS,
  type NodeRecord,
  type Settings,
} from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import { ClusterId, FIRST_NETWORK_VNI, MachineId, NetworkId, NodeId } from "../../shared/ids.ts";
import { familyOf, Ip } from "../../shared/ip.ts";
import type { Random } from "../../shared/ports.ts";
import { hex } from "../../shared/codec.ts";

/** Who may join: the secret itself is never stored. */
export const TokenRecord = z.object({
  id: z.string().regex(/^[0-9a-f]{12}$/),
  /** SHA-256 of the secret, hex. */
  secretHash: z.string().regex(/^[0-9a-f]{64}$/),
  createdAtMs: z.number().int(),
  expiresAtMs: z.number().int(),
  usesLeft: z.number().int().min(0),
  /** Networks by name the nodes it admits may host; absent = all. */
  networks: z.array(z.string()).optional(),
});
export type TokenRecord = z.infer<typeof TokenRecord>;

/** A block of a host that was removed, or the address of a virtual one that ended (without a node): nobody's until then. */
const QuarantinedBlock = BlockRecord.extend({
  node: NodeId.optional(),
  untilMs: z.number().int(),
});

/** An address that a host had before the one it has: nobody else's until then. */
const FormerAddress = z.object({ node: NodeId, ip: Ip, untilMs: z.number().int() });

/**
 * All that the controller must find again: the public state and what stays with it. Written whole,
 * by compare-and-set; a transition is a pure function from one record to the next.
 */
export const ControllerRecord = z.object({
  format: z.literal(1),
  state: ClusterState,
  tokens: z.array(TokenRecord),
  /** Never used again, so that an old frame or proof address means nobody else. */
  nextNodeIndex: z.number().int().min(1),
  nextVni: z.number().int().min(1),
  /** 32 bytes, base64url, by network: seals what its topic carries. */
  networkKeys: z.record(NetworkId, z.string()),
  quarantine: z.array(QuarantinedBlock).optional(),
  formerAddresses: z.array(FormerAddress).optional(),
  /** On which machine each host was admitted (machines.ts). Not in the state: it is nobody else's business. */
  machines: z.record(NodeId, MachineId).optional(),
  /** The revision at which a block was given, by `blockKey` (blocks.ts). */
  givenAt: z.record(z.string(), z.number().int()).optional(),
  /** From a backup, and has not met the hosts since: it may have forgotten what it signed (standing.ts). */
  restoredAtMs: z.number().int().optional(),
});
export type ControllerRecord = z.infer<typeof ControllerRecord>;

/** What a transition may know of the world. */
export interface Context {
  readonly wallMs: number;
  readonly random: Random;
}

export interface Transition<T> {
  readonly record: ControllerRecord;
  readonly result: T;
}

export interface NewCluster {
  readonly controllerPeer: NodeId;
  readonly controllerNode: NodeId;
  readonly address: Ip;
  readonly settings?: Partial<Settings>;
}

/** Revision 1: a cluster without nodes. */
export function newCluster(cluster: NewCluster, context: Context): ControllerRecord {
  return {
    format: 1,
    state: {
      format: 1,
      cluster: ClusterId.parse(hex(context.random.bytes(16))),
      revision: 1,
      settings: {
        ...DEFAULT_SETTINGS,
        // All hosts talk to each other as the first one does: a VXLAN socket has one family.
        underlayFamily: familyOf(cluster.address),
        ...cluster.settings,
      },
      controller: {
        node: cluster.controllerNode,
        address: cluster.address,
        peerId: cluster.controllerPeer,
      },
      nodes: [],
      revoked: [],
      networks: [],
      blocks: [],
    },
    tokens: [],
    nextNodeIndex: 1,
    nextVni: FIRST_NETWORK_VNI,
    networkKeys: {},
  };
}

/** The record with another state, one revision on. */
export function withState(
  record: ControllerRecord,
  changes: Partial<Omit<ClusterState, "revision">>,
): ControllerRecord {
  const { state } = record;
  return { ...record, state: { ...state, ...changes, revision: state.revision + 1 } };
}

/** Numbers that are spent are in the state of that revision: a controller that has only hosts to ask finds them there. */
export function withNumbers(
  record: ControllerRecord,
  spent: Partial<Pick<ControllerRecord, "nextVni" | "nextNodeIndex">>,
): ControllerRecord {
  const next = { ...record, ...spent };
  const numbers = { vni: next.nextVni, nodeIndex: next.nextNodeIndex };
  return { ...next, state: { ...next.state, numbers } };
}

/** @throws UNAUTHENTICATED when the node is not (or no longer) in the table. */
export function admittedNode(record: ControllerRecord, node: NodeId): NodeRecord {
  const found = record.state.nodes.find(({ id }) => id === node);
  if (found === undefined || record.state.revoked.includes(node))
    throw new OverlayError({
      code: "UNAUTHENTICATED",
      message: `host ${node} is not (or no longer) a member of this cluster`,
      next: "`overlay-ts leave --force` there, then join it again with a token of `overlay-ts token create`",
    });
  return found;
}
