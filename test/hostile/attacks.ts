import { randomBytes } from "node:crypto";
import { connect } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { lpStream } from "@libp2p/utils";
import type { Connection } from "@libp2p/interface";
import {
  ClusterSyncAnswer,
  type ClusterSyncRequest,
} from "../../agent/core/tables/cluster-messages.ts";
import { decodeMessage, SyncAnswer, type SyncRequest } from "../../agent/core/tables/messages.ts";
import { changeOwn } from "../../agent/core/tables/own-documents.ts";
import { frame, KIND } from "../../agent/replication/gossip/request-frame.ts";
import { RequestStream } from "../../agent/replication/gossip/request-stream.ts";
import { Sealing } from "../../agent/replication/gossip/sealing.ts";
import {
  CLUSTER_TOPIC,
  FOR_CLUSTER,
  FOR_NETWORK,
  requestFor,
  topicOf,
} from "../../agent/replication/request-kinds.ts";
import { ControlClient } from "../../controller/wire/client.ts";
import { Libp2pChannel } from "../../controller/wire/libp2p-channel.ts";
import { ControlRequest } from "../../controller/wire/messages.ts";
import { BOUNDS } from "../../shared/bounds.ts";
import { toBase64Url } from "../../shared/base64url.ts";
import type { ClusterState, SignedState } from "../../shared/cluster-state.ts";
import { encodeCbor } from "../../shared/codec.ts";
import { type HostDocument, hostSigningBytes, type NetworkDelta } from "../../shared/documents.ts";
import { asFailure } from "../../shared/errors.ts";
import { EndpointId, type NetworkId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import { type Mac, ruleMac } from "../../shared/mac.ts";
import type { Identity } from "../../shared/node/identity.ts";
import { ed25519Signer, sha256, systemRandom } from "../../shared/node/system.ts";
import { parseToken } from "../../shared/token.ts";
import { signCertificate, signState } from "../../shared/trust.ts";
import { gossipTo, requestsTo } from "./raw-member.ts";

export interface Attacker {
  readonly identity: Identity;
  readonly state: ClusterState;
  readonly signedState: SignedState;
  readonly control: ControlClient;
  networkKey(network: NetworkId): Promise<Uint8Array>;
  /** Connections with every other host. */
  victims(): Promise<Connection[]>;
}

/** What it gives is printed as JSON. */
type Attack = (attacker: Attacker, given: never) => Promise<unknown>;

function networkNamed({ state }: Attacker, name: string): NetworkId {
  return state.networks.find((network) => network.name === name)!.id;
}

async function ask(connection: Connection, kind: number, request: unknown): Promise<Uint8Array> {
  const stream = new RequestStream(await requestsTo(connection), () => {});
  return stream.request(requestFor(kind, encodeCbor(request)), 5000);
}

async function askNetwork(connection: Connection, request: SyncRequest): Promise<SyncAnswer> {
  return decodeMessage(
    SyncAnswer,
    await ask(connection, FOR_NETWORK, request),
    BOUNDS.syncMessageBytes,
  );
}

async function askCluster(
  connection: Connection,
  request: ClusterSyncRequest,
): Promise<ClusterSyncAnswer> {
  const answer = await ask(connection, FOR_CLUSTER, request);
  return decodeMessage(ClusterSyncAnswer, answer, BOUNDS.syncMessageBytes);
}

/** To all, and read by them: a stream that ends too soon takes its last words along. */
async function sayToAll(
  attacker: Attacker,
  messages: readonly { topic: string; data: Uint8Array }[],
): Promise<void> {
  for (const victim of await attacker.victims()) {
    const { say } = await gossipTo(victim);
    for (const message of messages) await say([message]).catch(() => {});
  }
  await delay(500);
}

async function documentsOf(attacker: Attacker, network: NetworkId, nodes: HostDocument["node"][]) {
  const [victim] = await attacker.victims();
  const request = { v: 1, kind: "fetch", network, nodes } as const;
  const answer = await askNetwork(victim!, request);
  return answer.kind === "documents" ? answer.documents : [];
}

/** Its next document on the network, rightly signed and sealed, with what is not its own in it. */
async function claimEndpoints(
  attacker: Attacker,
  { network: name, victim, gateway }: { network: string; victim: End; gateway: Ip },
): Promise<unknown> {
  const network = networkNamed(attacker, name);
  const { node, seed } = attacker.identity;
  const [held] = await documentsOf(attacker, network, [node]);
  const own = held?.endpoints[0];
  const claim = (ipv4: Ip, mac: Mac) => ({
    id: EndpointId.parse(randomBytes(32).toString("hex")),
    ipv4,
    mac,
    names: ["victim", "stolen"],
  });
  const claims = [
    claim(victim.ip, ruleMac(victim.ip)),
    claim(victim.ip, victim.mac),
    claim(gateway, ruleMac(gateway)),
    claim(own!.ipv4!, victim.mac),
  ];
  const modules = { node, hasher: sha256, signer: ed25519Signer(seed) };
  const { delta } = changeOwn(modules, network, held, claims, []);
  const sealing = new Sealing(await attacker.networkKey(network), systemRandom);
  const sealed = (message: NetworkDelta): Uint8Array =>
    sealing.seal(encodeCbor({ v: 1, delta: message }));
  const topic = topicOf(network);
  const another = attacker.state.nodes.find(({ id }) => id !== node)!.id;
  await sayToAll(attacker, [
    { topic, data: sealed(delta) },
    // In another host's name, and one that was changed on its way.
    { topic, data: sealed({ ...delta, node: another }) },
    { topic, data: sealed({ ...delta, put: [] }) },
    { topic, data: randomBytes(500) },
  ]);
  return { claimed: claims.length };
}

/** It says that it has a victim's address, its tunnel, and networks that its token did not allow. */
async function claimHost(
  attacker: Attacker,
  { networks }: { networks: string[] },
): Promise<unknown> {
  const { identity, state } = attacker;
  const [victim] = await attacker.victims();
  const another = state.nodes.find(({ id }) => id !== identity.node)!;
  const nodes = [identity.node, another.id];
  const fetched = await askCluster(victim!, { v: 1, kind: "fetchCluster", revision: 0, nodes });
  if (fetched.kind !== "cluster") throw new Error("the victim did not answer");
  const held = fetched.hosts.find(({ node }) => node === identity.node)!;
  const theirs = fetched.hosts.find(({ node }) => node === another.id)!;
  const claimed: HostDocument = {
    ...held,
    version: { ...held.version, seq: held.version.seq + 1 },
    vtep: { advertised: another.vtep, local: another.vtep },
    wireguardKey: theirs.wireguardKey,
    hosting: networks.map((name) => networkNamed(attacker, name)).toSorted(),
  };
  const signer = ed25519Signer(identity.seed);
  const signed = (document: HostDocument): HostDocument => ({
    ...document,
    signature: signer.sign(hostSigningBytes(document)),
  });
  const later: HostDocument = {
    ...theirs,
    version: { ...theirs.version, seq: theirs.version.seq + 1 },
    hosting: [],
  };
  const documents = [signed(claimed), signed(later), later];
  const messages = documents.map((document) => ({ v: 1, kind: "host", document }));
  await sayToAll(
    attacker,
    messages.map((message) => ({ topic: CLUSTER_TOPIC, data: encodeCbor(message) })),
  );
  return { said: documents.length };
}

/** A state of its own, under a key of its own, a thousand revisions on; and the old one again. */
async function forgeState(attacker: Attacker): Promise<unknown> {
  const { identity, state, signedState } = attacker;
  const revision = state.revision + 1000;
  const certificate = await signCertificate(identity, {
    cluster: state.cluster,
    controller: identity.node,
  });
  const forged = {
    ...state,
    revision,
    nodes: state.nodes.filter(({ id }) => id === identity.node),
  };
  const states = [
    await signState(identity, certificate, forged),
    await signState(identity, signedState.controllerCertificate, forged),
    {
      ...signedState,
      jws: signedState.jws.replace(/\.[^.]*$/, `.${toBase64Url(randomBytes(64))}`),
    },
  ];
  const messages = [
    ...states.map((forgery) => ({ v: 1, kind: "state", revision, state: forgery })),
    { v: 1, kind: "state", revision: state.revision, state: signedState },
  ];
  await sayToAll(
    attacker,
    messages.map((message) => ({ topic: CLUSTER_TOPIC, data: encodeCbor(message) })),
  );
  return { revision };
}

/** What another host said before, said again: as it was, and as if it were the newest. */
async function replay(
  attacker: Attacker,
  { network: name, documents }: { network: string; documents?: string },
): Promise<unknown> {
  const network = networkNamed(attacker, name);
  const others = attacker.state.nodes.map(({ id }) => id);
  if (documents === undefined) {
    const held = await documentsOf(attacker, network, others);
    return { documents: Buffer.from(encodeCbor(held)).toString("base64") };
  }
  const old = decodeMessage(
    SyncAnswer.options[2].shape.documents,
    Buffer.from(documents, "base64"),
    BOUNDS.syncMessageBytes,
  );
  const sealing = new Sealing(await attacker.networkKey(network), systemRandom);
  const deltas = old.flatMap(({ endpoints, ...document }) => {
    const said = { ...document, put: endpoints, remove: [], previousSeq: 0, hash: randomBytes(32) };
    const { version } = document;
    return [said, { ...said, version: { ...version, incarnation: version.incarnation + 1 } }];
  });
  const topic = topicOf(network);
  await sayToAll(
    attacker,
    deltas.map((delta) => ({ topic, data: sealing.seal(encodeCbor({ v: 1, delta })) })),
  );
  return { replayed: deltas.length };
}

/** Of a network that its token did not allow: its key, what its members say, an address of it. */
async function lookInto(attacker: Attacker, { network: name }: { network: string }) {
  const network = networkNamed(attacker, name);
  const said = (work: Promise<unknown>): Promise<string> =>
    work.then(
      (got) => `got ${JSON.stringify(got)}`,
      (error: unknown) => asFailure(error).message,
    );
  const [victim] = await attacker.victims();
  const nodes = attacker.state.nodes.map(({ id }) => id);
  return {
    key: await said(attacker.networkKey(network)),
    block: await said(
      attacker.control.request({ v: 1, kind: "allotBlock", network, family: 4 }, "block"),
    ),
    rotate: await said(attacker.control.request({ v: 1, kind: "rotateKey", network }, "done")),
    documents: (await askNetwork(victim!, { v: 1, kind: "fetch", network, nodes })).kind,
  };
}

/** Huge, deep, cut off, half open. */
async function malformed(attacker: Attacker): Promise<unknown> {
  const deep = Buffer.alloc(50_000, 0x81);
  const bodies = [
    deep,
    Buffer.alloc(0),
    randomBytes(1000),
    Buffer.alloc(BOUNDS.gossipMessageBytes + 1, 0x40),
    encodeCbor({ v: 99, kind: "host" }),
    encodeCbor({ v: 1, kind: "stateIsThere", revision: Number.MAX_SAFE_INTEGER }),
  ];
  await sayToAll(
    attacker,
    bodies.map((data) => ({ topic: CLUSTER_TOPIC, data })),
  );
  for (const victim of await attacker.victims()) {
    const stream = await requestsTo(victim);
    for (const [id, body] of bodies.entries())
      await lpStream(stream).write(
        frame(id, KIND.request, Uint8Array.of(FOR_NETWORK, ...body.subarray(0, 60_000))),
      );
    // Half a frame, and streams without any.
    stream.send(Uint8Array.of(0x80));
    for (let i = 0; i < 2; i++) await requestsTo(victim);
  }
  await delay(500);
  return { said: bodies.length };
}

/** Strangers that connect and say nothing, as many as there is room for. */
async function halfOpen({ state, identity }: Attacker, { count }: { count: number }) {
  const sockets = state.nodes
    .filter(({ id }) => id !== identity.node)
    .flatMap(({ address }) =>
      Array.from({ length: count }, () =>
        connect({ host: address, port: state.settings.ports.gossip }).on("error", () => {}),
      ),
    );
  await delay(3000);
  const open = sockets.filter(({ readyState }) => readyState === "open").length;
  for (const socket of sockets) socket.destroy();
  return { open };
}

/** Words of many messages each, as fast as they are taken, until it is cut off or the time is over. */
async function flood(attacker: Attacker, { seconds }: { seconds: number }): Promise<unknown> {
  const message = () => ({ topic: CLUSTER_TOPIC, data: randomBytes(64) });
  const words = Array.from({ length: 50 }, () => Array.from({ length: 1000 }, message));
  const untilMs = performance.now() + seconds * 1000;
  let sent = 0;
  let cut = 0;
  await Promise.all(
    (await attacker.victims()).map(async (victim) => {
      const { say } = await gossipTo(victim);
      try {
        for (let i = 0; performance.now() < untilMs; i++) {
          await say(words[i % words.length]!);
          sent += 1000;
        }
      } catch {
        cut++;
      }
    }),
  );
  return { sent, cut };
}

/** With a key that nobody admitted. */
async function joinAsStranger({ state }: Attacker, { token }: { token: string }) {
  const { id, secret } = parseToken(token);
  const stranger = new ControlClient(new Libp2pChannel(randomBytes(32)), () => ({
    address: state.controller.address,
    port: state.settings.ports.controller,
    peer: state.controller.peerId,
  }));
  const facts = { ...state.nodes.at(-1)!, name: "stranger", address: "198.51.100.77" as Ip };
  const request = { v: 1, kind: "join", id, secret, facts: { ...facts, vtep: facts.address } };
  try {
    await stranger.request(ControlRequest.parse(request), "joined");
    return { said: "welcome" };
  } catch (error) {
    return { said: asFailure(error).message };
  } finally {
    await stranger.close();
  }
}

/** How many of the others let it in: they close a moment after it believes so. */
async function dial(attacker: Attacker) {
  const connections = await attacker.victims();
  await delay(1000);
  return { welcome: connections.filter(({ status }) => status === "open").length };
}

interface End {
  readonly ip: Ip;
  readonly mac: Mac;
}

export const ATTACKS: Readonly<Record<string, Attack>> = {
  claimEndpoints,
  claimHost,
  forgeState,
  replay,
  lookInto,
  malformed,
  halfOpen,
  flood,
  joinAsStranger,
  dial,
};
