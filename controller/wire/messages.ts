import { z } from "zod";
import { BOUNDS } from "../../shared/bounds.ts";
import {
  BlockRecord,
  NetworkRecord,
  NodeRecord,
  SignedNodeClaim,
  SignedState,
  Takes,
  VipMaker,
  VipRecord,
} from "../../shared/cluster-state.ts";
import { ClusterId, DockerNetworkId, MachineId, NetworkId } from "../../shared/ids.ts";
import { Cidr, Ip } from "../../shared/ip.ts";

/** What hosts ask of the controller, and its answers: CBOR, one request and answer a stream. */

const v = z.literal(1);
const Labels = z
  .record(z.string().max(BOUNDS.labelBytes), z.string().max(BOUNDS.labelBytes))
  .refine((labels) => Object.keys(labels).length <= BOUNDS.labels, "too many labels");
const Bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, "not bytes");

const NodeFacts = NodeRecord.pick({
  name: true,
  address: true,
  vtep: true,
  behindNat: true,
  underlayMtuBytes: true,
  ownSubnets: true,
  sealKey: true,
});

const UnderlayFacts = NodeFacts.pick({ underlayMtuBytes: true, ownSubnets: true });

const AddressFacts = NodeFacts.pick({
  address: true,
  vtep: true,
  behindNat: true,
  underlayMtuBytes: true,
  ownSubnets: true,
});

const NetworkRequest = z.object({
  name: z.string().min(1).max(128).optional(),
  subnets: z
    .array(
      z.object({
        subnet: Cidr,
        gateway: Ip.optional(),
        range: Cidr.optional(),
        reserved: z.array(Ip).max(BOUNDS.reservedAddresses).optional(),
        dockerIpam: z.boolean().optional(),
      }),
    )
    .max(2),
  internal: z.boolean(),
  attachable: z.boolean(),
  labels: Labels,
  driverOptions: Labels,
  createdAs: DockerNetworkId.optional(),
});

/** Of the state that the asking host holds: a controller that knows less has forgotten something. */
const holds = z.number().int().min(0).optional();

/** Of the state, for an answer: 0.1.0 says nothing, and takes it whole. */
const takes = Takes.optional();

/** Where the host runs; `replace`: and not any more where it was admitted. Hosts of 0.1.0 say neither. */
const machine = MachineId.optional();
const replace = z.literal(true).optional();

/** Only `join` is open to strangers; the rest to hosts of the signed table. */
export const ControlRequest = z.discriminatedUnion("kind", [
  z.object({
    v,
    kind: z.literal("join"),
    id: z.string(),
    secret: Bytes,
    /** The token's: another's controller admits nobody. 0.1.0 does not say it. */
    cluster: ClusterId.optional(),
    facts: NodeFacts,
    machine,
    replace,
    takes,
  }),
  /** The newest state, if it is newer than what the asker holds. */
  z.object({ v, kind: z.literal("state"), revision: z.number().int().min(0), takes }),
  /** The host is at another address, from which this comes; answered as a joining is. */
  z.object({
    v,
    kind: z.literal("readdress"),
    holds,
    takes,
    facts: AddressFacts,
    machine,
    replace,
  }),
  /** Its interface has another MTU, or it reaches other subnets by itself, than it said before. */
  z.object({ v, kind: z.literal("underlay"), holds, takes, facts: UnderlayFacts }),
  z.object({ v, kind: z.literal("createNetwork"), holds, takes, network: NetworkRequest }),
  z.object({
    v,
    kind: z.literal("nameNetwork"),
    holds,
    takes,
    network: NetworkId,
    name: z.string().min(1).max(128),
    labels: Labels,
    attachable: z.boolean(),
    dockerRanges: z.array(Cidr).max(2).optional(),
  }),
  z.object({ v, kind: z.literal("removeNetwork"), holds, takes, network: NetworkId }),
  /** What a host needs to put its first container on a network, in one exchange. */
  z.object({
    v,
    kind: z.literal("allotBlock"),
    holds,
    takes,
    network: NetworkId,
    family: z.union([z.literal(4), z.literal(6)]).default(4),
  }),
  z.object({ v, kind: z.literal("grantAddress"), holds, takes, network: NetworkId, ip: Ip }),
  z.object({ v, kind: z.literal("returnBlock"), holds, takes, network: NetworkId, block: Cidr }),
  /** A virtual address for a name of the network. */
  z.object({
    v,
    kind: z.literal("addVip"),
    holds,
    takes,
    network: NetworkId,
    name: z.string().max(BOUNDS.nameLength),
    sticky: z.boolean(),
    madeBy: VipMaker,
  }),
  /** `unheld`: nobody has the name any more; what an admin made stays then. */
  z.object({
    v,
    kind: z.literal("removeVip"),
    holds,
    takes,
    network: NetworkId,
    name: z.string().max(BOUNDS.nameLength),
    unheld: z.literal(true).optional(),
  }),
  z.object({ v, kind: z.literal("networkKey"), holds, takes, network: NetworkId }),
  /** The network's gossip key is made anew; hosts on it fetch it. */
  z.object({ v, kind: z.literal("rotateKey"), holds, takes, network: NetworkId }),
]);
export type ControlRequest = z.infer<typeof ControlRequest>;
export type RequestOf<K extends ControlRequest["kind"]> = Extract<ControlRequest, { kind: K }>;

/** A network's key, sealed to the asking host (shared/sealed-box.ts). */
export const SealedKey = z.object({ epoch: z.number().int().min(1), sealed: Bytes });
export type SealedKey = z.infer<typeof SealedKey>;

const Failure = z.object({
  code: z.string(),
  message: z.string(),
  next: z.string().optional(),
});

/** `state` is the newest after the request: the asker need not wait for gossip. */
export const ControlAnswer = z.discriminatedUnion("kind", [
  z.object({ v, kind: z.literal("failed"), failure: Failure }),
  z.object({
    v,
    kind: z.literal("joined"),
    rootKey: Bytes,
    claim: SignedNodeClaim,
    state: SignedState,
    /** By name: another member that says the same machine id. */
    machineSharedWith: z.string().optional(),
  }),
  z.object({ v, kind: z.literal("state"), state: SignedState.optional() }),
  /** To who watches: the state has this revision now. */
  z.object({ v, kind: z.literal("news"), revision: z.number().int().min(0) }),
  z.object({ v, kind: z.literal("network"), network: NetworkRecord, state: SignedState }),
  z.object({
    v,
    kind: z.literal("block"),
    block: BlockRecord,
    key: SealedKey,
    state: SignedState,
  }),
  z.object({ v, kind: z.literal("vip"), vip: VipRecord, state: SignedState }),
  z.object({ v, kind: z.literal("key"), key: SealedKey }),
  z.object({ v, kind: z.literal("done"), state: SignedState }),
]);
export type ControlAnswer = z.infer<typeof ControlAnswer>;
export type AnswerOf<K extends ControlAnswer["kind"]> = Extract<ControlAnswer, { kind: K }>;
