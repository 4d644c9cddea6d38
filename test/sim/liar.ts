import { ClusterGossip, ClusterSyncAnswer } from "../../agent/core/tables/cluster-messages.ts";
import { decodeMessage, encodeMessage } from "../../agent/core/tables/messages.ts";
import { BOUNDS } from "../../shared/bounds.ts";
import type { NetworkRecord } from "../../shared/cluster-state.ts";
import { encodeCbor, hex } from "../../shared/codec.ts";
import {
  type Endpoint,
  endpointsHash,
  familiesOf,
  hostSigningBytes,
  networkSigningBytes,
} from "../../shared/documents.ts";
import { EndpointId } from "../../shared/ids.ts";
import { decodeChange, encodeChange } from "../../shared/state/change.ts";
import { ruleMac } from "../../shared/mac.ts";
import type { Random, Signer } from "../../shared/ports.ts";
import { CLUSTER_TOPIC, FOR_CLUSTER, topicOf } from "../../agent/replication/request-kinds.ts";
import type { SimAgent } from "./sim-agent.ts";
import { oneShotSha256 } from "./stand-ins.ts";
import { pick, type World } from "./world.ts";

/** One thing that an admitted host says although it is not so, over the real wire format. */
export function lie(world: World, liar: SimAgent, random: Random): void {
  const networks = (liar.tables.state?.networks ?? []).filter(({ id }) =>
    liar.localNetworks.has(id),
  );
  const record = pick(random, networks);
  if (record === undefined) return;
  world.faults.lies++;
  const lies = [
    claimAddress,
    claimMac,
    claimGateway,
    forge,
    alter,
    strangersNetwork,
    strangersWord,
    replayState,
    noise,
  ];
  pick(random, lies)?.({ world, liar, random, record });
}

/**
 * A change of the controller's state has come to the liar, who is as quick as gossip: the true head goes on with what is not its
 * own, to those whom the truth has not reached.
 */
export function alterChange(world: World, liar: SimAgent, random: Random, bytes: Uint8Array): void {
  let message: ClusterGossip;
  try {
    message = decodeMessage(ClusterGossip, bytes, BOUNDS.gossipMessageBytes);
  } catch {
    return;
  }
  if (message.kind !== "change") return;
  world.faults.lies++;
  const { put, drop } = decodeChange(message.change.change);
  const before = liar.replication.cluster.signed().changes.at(-1)?.signed;
  const otherBlocks = put.map(([key, object]) =>
    key.startsWith("blocks/")
      ? ([key, encodeCbor(["10.255.0.0/24"])] as const)
      : ([key, object] as const),
  );
  const change =
    before === undefined || random.below(2) === 0
      ? encodeChange({ put: otherBlocks, drop })
      : before.change;
  const altered = { ...message, change: { ...message.change, change } };
  world.network.publish(liar, CLUSTER_TOPIC, encodeCbor(altered));
}

/** The liar is asked for objects of the controller's state: some are not as they were signed, or not there. */
export function alterObjects(
  world: World,
  random: Random,
  question: Uint8Array,
  answer: Uint8Array,
): Uint8Array {
  if (question[0] !== FOR_CLUSTER) return answer;
  const told = decodeMessage(ClusterSyncAnswer, answer, BOUNDS.syncMessageBytes);
  if (told.kind !== "stateObjects" || random.below(3) === 0) return answer;
  world.faults.lies++;
  const isWithheld = random.below(3) === 0;
  const buckets = told.buckets.map(([index, entries]) => [
    index,
    isWithheld
      ? entries.slice(1)
      : entries.map(([key, object]) => [
          key,
          key.startsWith("blocks/") ? encodeCbor(["10.255.0.0/24"]) : object,
        ]),
  ]);
  return encodeCbor({ ...told, buckets });
}

interface Lie {
  readonly world: World;
  readonly liar: SimAgent;
  readonly random: Random;
  readonly record: NetworkRecord;
}

/** Another host's container, as if it ran here. */
function claimAddress({ world, liar, random, record }: Lie): void {
  const victim = someContainer(world, liar, record, random);
  if (victim === undefined) return;
  const { ips, mac, names } = victim;
  say(liar, record, { id: freshId(random), ...familiesOf(ips), mac, names: [...names] });
}

/** An address of its own under the MAC of another's. */
function claimMac({ world, liar, random, record }: Lie): void {
  const victim = someContainer(world, liar, record, random);
  const own = [...liar.host.containers.values()].find(({ network }) => network === record.id);
  if (victim === undefined || own === undefined || !victim.mac.startsWith("02:4")) return;
  say(liar, record, {
    id: freshId(random),
    ...familiesOf(own.ips),
    mac: victim.mac,
    names: ["db"],
  });
}

function claimGateway({ liar, random, record }: Lie): void {
  const { gateway } = record.subnets[0]!;
  say(liar, record, {
    id: freshId(random),
    ...familiesOf([gateway]),
    mac: ruleMac(gateway),
    names: ["gateway"],
  });
}

/** A newer document of another host, signed with the liar's key: nothing runs there any more. */
function forge({ world, liar, record }: Lie): void {
  const held = [...liar.tables.documents(record.id).values()].find(
    ({ node }) => node !== liar.node,
  );
  if (held === undefined) return;
  const version = { ...held.version, seq: held.version.seq + 1 };
  const remove = held.endpoints.map(({ id }) => id);
  gossipEmpty(world, liar, record, held.node, version, world.keys.signer(liar.node), remove);
}

/** Another host's newest change, well signed, handed on without what it changes. */
function alter({ world, liar, random, record }: Lie): void {
  const { node } = liar;
  const others = [...liar.tables.documents(record.id).values()].filter(
    (held) => held.node !== node,
  );
  const held = pick(random, others);
  if (held === undefined) return;
  const { version, endpoints, signature } = held;
  const hash = endpointsHash(oneShotSha256, endpoints);
  const changes = { previousSeq: version.seq - 1, put: [], remove: [] };
  const delta = { network: record.id, node: held.node, version, ...changes, hash, signature };
  world.network.publish(liar, topicOf(record.id), encodeMessage({ v: 1, delta }));
}

/** A host that nobody admitted. */
function strangersNetwork({ world, liar, record }: Lie): void {
  const stranger = world.keys.mint();
  const version = { incarnation: 1, seq: 1 };
  gossipEmpty(world, liar, record, stranger, version, world.keys.signer(stranger));
}

function strangersWord({ world, liar, record }: Lie): void {
  const node = world.keys.mint();
  const { address } = liar.host;
  const unsigned = {
    node,
    version: { incarnation: 1, seq: 1 },
    bootId: "stranger",
    vtep: { advertised: address, local: address },
    underlayMtuBytes: 1500,
    capabilities: [],
    hosting: [record.id],
  };
  const signature = world.keys.signer(node).sign(hostSigningBytes(unsigned));
  const document = { ...unsigned, signature };
  world.network.publish(liar, CLUSTER_TOPIC, encodeCbor({ v: 1, kind: "host", document }));
}

/** The state of long ago, announced as the newest. */
function replayState({ world, liar }: Lie): void {
  const { state } = liar.host.membership;
  const revision = 1_000_000;
  world.network.publish(liar, CLUSTER_TOPIC, encodeCbor({ v: 1, kind: "state", revision, state }));
}

function noise({ world, liar, random, record }: Lie): void {
  const topic = random.below(2) === 0 ? CLUSTER_TOPIC : topicOf(record.id);
  world.network.publish(liar, topic, random.bytes(1 + random.below(64)));
}

function gossipEmpty(
  world: World,
  liar: SimAgent,
  record: NetworkRecord,
  node: SimAgent["node"],
  version: { incarnation: number; seq: number },
  signer: Signer,
  remove: readonly EndpointId[] = [],
): void {
  const hash = endpointsHash(oneShotSha256, []);
  const signature = signer.sign(networkSigningBytes(record.id, node, version, hash));
  const previousSeq = version.seq - 1;
  const changes = { put: [], remove: [...remove] };
  const delta = { network: record.id, node, version, previousSeq, ...changes, hash, signature };
  world.network.publish(liar, topicOf(record.id), encodeMessage({ v: 1, delta }));
}

function say(liar: SimAgent, record: NetworkRecord, endpoint: Endpoint): void {
  // A bound: lies that nobody believes are taken back one after the other.
  const before = liar.localNetworks
    .endpoints(record.id)
    .filter(({ id }) => !liar.host.containers.has(id));
  const back = before.length < 4 ? [] : before.slice(0, 1).map(({ id }) => id);
  liar.replication.change(record.id, [endpoint], back);
}

function someContainer(world: World, liar: SimAgent, record: NetworkRecord, random: Random) {
  const others = world.hosts
    .filter((host) => host !== liar.host)
    .flatMap((host) => [...host.containers.values()]);
  return pick(
    random,
    others.filter(({ network }) => network === record.id),
  );
}

function freshId(random: Random): EndpointId {
  return EndpointId.parse(hex(random.bytes(8)));
}
