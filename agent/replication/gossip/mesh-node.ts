import { yamux } from "@chainsafe/libp2p-yamux";
import { generateKeyPairFromSeed } from "@libp2p/crypto/keys";
import { gossipsub, type GossipSub, StrictNoSign } from "@libp2p/gossipsub";
import { identify } from "@libp2p/identify";
import type { Connection, PeerId, Stream } from "@libp2p/interface";
import { peerIdFromString } from "@libp2p/peer-id";
import { tcp } from "@libp2p/tcp";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p, type Libp2p } from "libp2p";
import { BOUNDS } from "../../../shared/bounds.ts";
import { asFailure, assert, OverlayError } from "../../../shared/errors.ts";
import { NodeId } from "../../../shared/ids.ts";
import { portHolder } from "../../../shared/node/port-holder.ts";
import { sha256, systemRandom } from "../../../shared/node/system.ts";
import { TokenBucket } from "../../../shared/token-bucket.ts";
import { protocolsOf, WIRE_VERSIONS } from "../../../shared/wire-version.ts";
import { AdmissionRules } from "./admission-rules.ts";
import { admittedNoise } from "./admitted-noise.ts";
import { DEFAULT_DIAL_TIMEOUTS, Dialling } from "./dialling.ts";
import { FloodLimits, GOSSIP_LIMITS, gossipWork } from "./flood-limits.ts";
import { otherVersion } from "./other-version.ts";
import type { Admission, Mesh, MeshHandlers, MeshOptions, MeshPeer, OtherVersion } from "./port.ts";
import { RequestStream, serveRequests } from "./request-stream.ts";
import { RequestStreams } from "./request-streams.ts";
import { Sealing } from "./sealing.ts";
import { openWindowByHalves } from "./window-updates.ts";

/** Two hosts that share 1,000 networks compare 700 of them a second, and all at once when they meet. */
const REQUEST_PACE = { perSecond: 1500, burst: 10_000 } as const;

/** Some times in a row, and not more, within what is tolerated (flood-limits.ts). */
const ENDED_STREAM_WORK = 10_000;

type Services = { pubsub: GossipSub };

/** libp2p as the mesh needs it. Runs in the worker; `Libp2pMesh` is its other end. */
export class MeshNode implements Mesh {
  readonly #options: MeshOptions;
  readonly #rules: AdmissionRules;
  readonly #topics = new Map<string, Sealing | undefined>();
  readonly #counters: Record<string, number> = {
    unsealed: 0,
    tooLarge: 0,
    requestsFailed: 0,
    floodDropped: 0,
    floodCut: 0,
  };
  readonly #flood = new FloodLimits(GOSSIP_LIMITS);
  readonly #paces = new Map<NodeId, TokenBucket>();
  readonly #versions: readonly number[];
  readonly #otherVersions = new Map<NodeId, readonly number[]>();
  readonly #requests = new RequestStreams(async (to, signal, ended) => {
    const connection = this.#started().getConnections(peerIdFromString(to))[0];
    if (connection === undefined) throw new Error("not connected");
    const stream = await connection.newStream(protocolsOf("sync", this.#versions), { signal });
    openWindowByHalves(stream);
    return new RequestStream(stream, ended);
  });
  #handlers: MeshHandlers | undefined;
  #node: Libp2p<Services> | undefined;
  #dialling: Dialling | undefined;

  constructor(options: MeshOptions) {
    this.#options = options;
    this.#rules = new AdmissionRules(options.rootKey, (peer) =>
      this.#flood.isCut(peer, performance.now()),
    );
    this.#versions = options.versions ?? WIRE_VERSIONS;
  }

  async start(handlers: MeshHandlers): Promise<void> {
    this.#handlers = handlers;
    const node = await this.#create();
    this.#node = node;
    this.#dialling = new Dialling(
      ({ node: id, address, port }, signal) => {
        const family = address.includes(":") ? "ip6" : "ip4";
        return node.dial(multiaddr(`/${family}/${address}/tcp/${port}/p2p/${id}`), { signal });
      },
      (id) => node.getConnections(peerIdFromString(id)).length > 0,
      systemRandom,
    );
    node.addEventListener("peer:connect", ({ detail }) => {
      const id = NodeId.parse(detail.toString());
      this.#otherVersions.delete(id);
      handlers.connected(id);
    });
    node.addEventListener("peer:disconnect", ({ detail }) => {
      const id = NodeId.parse(detail.toString());
      handlers.disconnected(id);
      this.#dialling?.lost(id);
    });
    node.services.pubsub.addEventListener("gossipsub:message", ({ detail }) => {
      const from = NodeId.parse(detail.propagationSource.toString());
      this.#received(detail.msg.topic, from, detail.msg.data);
    });
    limitGossip(node.services.pubsub, (peer, work) => {
      const bears = this.#bears(peer, work);
      if (!bears) this.#count("floodDropped");
      return bears;
    });
    const sync = protocolsOf("sync", this.#versions);
    await node.handle(sync, (stream, from) => this.#serve(stream, from), {
      maxInboundStreams: 4,
      maxOutboundStreams: 256,
    });
  }

  admit(admission: Admission): void {
    this.#rules.set(admission);
    for (const connection of this.#node?.getConnections() ?? [])
      if (!this.#rules.stillWelcome(NodeId.parse(connection.remotePeer.toString()))) {
        this.#count("cutRevoked");
        connection.abort(new Error("revoked"));
      }
  }

  wantPeers(peers: readonly MeshPeer[]): void {
    this.#dialling?.want(peers);
  }

  join(topic: string, key: Uint8Array | undefined): Promise<void> {
    const held = this.#topics.get(topic);
    if (held !== undefined && key !== undefined) held.rotate(key);
    else this.#topics.set(topic, key && new Sealing(key, systemRandom));
    this.#started().services.pubsub.subscribe(topic);
    return Promise.resolve();
  }

  leave(topic: string): Promise<void> {
    this.#topics.delete(topic);
    this.#started().services.pubsub.unsubscribe(topic);
    return Promise.resolve();
  }

  async publish(topic: string, bytes: Uint8Array): Promise<void> {
    if (bytes.length > BOUNDS.gossipMessageBytes)
      throw new OverlayError({
        code: "TOO_LARGE",
        message: `a gossip message of ${bytes.length} bytes`,
      });
    const sealed = this.#topics.get(topic)?.seal(bytes) ?? bytes;
    await this.#started().services.pubsub.publish(topic, sealed);
  }

  async request(to: NodeId, bytes: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    try {
      return await this.#requests.request(to, bytes, timeoutMs);
    } catch (error) {
      this.#count("requestsFailed");
      const { code, message } = asFailure(error);
      throw new OverlayError(
        {
          code: code === "TIMEOUT" ? "TIMEOUT" : "UNREACHABLE",
          message: `host ${to} cannot be asked: ${message}`,
        },
        { cause: error },
      );
    }
  }

  connections(): NodeId[] {
    return (this.#node?.getPeers() ?? []).map((peer) => NodeId.parse(peer.toString()));
  }

  /** Who runs in the caller's own thread cannot stall apart from it. */
  owesSinceMs(): undefined {
    return undefined;
  }

  counters(): Promise<Readonly<Record<string, number>>> {
    return Promise.resolve({ ...this.#counters });
  }

  otherVersions(): Promise<readonly OtherVersion[]> {
    return Promise.resolve(
      [...this.#otherVersions].map(([node, versions]) => ({ node, versions })),
    );
  }

  async stop(): Promise<void> {
    this.#dialling?.stop();
    await this.#node?.stop();
    this.#node = undefined;
  }

  async #create(): Promise<Libp2p<Services>> {
    const { identitySeed, listen, claim } = this.#options;
    const { mostMs } = DEFAULT_DIAL_TIMEOUTS;
    const family = listen.address.includes(":") ? "ip6" : "ip4";
    const refused = (why: string): void =>
      this.#count(`refused${why.charAt(0).toUpperCase()}${why.slice(1)}`);
    try {
      return await createLibp2p<Services & { identify: unknown }>({
        privateKey: await generateKeyPairFromSeed("Ed25519", identitySeed),
        addresses: { listen: [`/${family}/${listen.address}/tcp/${listen.port}`] },
        transports: [tcp()],
        connectionEncrypters: [
          ...this.#versions.map((version) =>
            admittedNoise({ claim, rules: this.#rules, refused, version }),
          ),
          otherVersion(this.#versions, (id, theirs) => {
            refused("otherVersion");
            if (id !== undefined) this.#otherVersions.set(id, theirs);
          }),
        ],
        streamMuxers: [yamux()],
        // A whole cluster may come at once after a power cut; strangers are refused by their claim.
        connectionManager: {
          inboundConnectionThreshold: 1000,
          maxIncomingPendingConnections: 256,
          // Of libp2p's own limits none is to end what `Dialling` waits for: that of an address is six seconds.
          dialTimeout: mostMs,
          addressDialTimeout: mostMs,
          inboundUpgradeTimeout: mostMs,
          inboundStreamProtocolNegotiationTimeout: mostMs,
          outboundStreamProtocolNegotiationTimeout: mostMs,
          maxConnections: 2000,
        },
        // A connection ends when its ping has no answer; whether the host is there is asked elsewhere, and sooner.
        connectionMonitor: { pingInterval: 10_000, pingTimeout: { minTimeout: mostMs } },
        services: {
          // Gossip begins with it: a peer that was slow once would have none.
          identify: identify({ runOnConnectionOpen: true, timeout: mostMs }),
          pubsub: gossipsub({
            globalSignaturePolicy: StrictNoSign,
            D: 4,
            Dlo: 3,
            Dhi: 6,
            Dlazy: 4,
            emitSelf: false,
            allowPublishToZeroTopicPeers: true,
            ignoreDuplicatePublishError: true,
            fallbackToFloodsub: false,
            msgIdFn: ({ data }) => sha256.sha256(data),
            maxInboundDataLength: BOUNDS.gossipMessageBytes * 4,
          }),
        },
      });
    } catch (error) {
      throw listenFailure(error, listen);
    }
  }

  #received(topic: string, from: NodeId, data: Uint8Array): void {
    if (!this.#topics.has(topic)) return;
    const sealing = this.#topics.get(topic);
    const opened = sealing === undefined ? data : sealing.open(data);
    if (opened === undefined) this.#count("unsealed");
    else if (opened.length > BOUNDS.gossipMessageBytes) this.#count("tooLarge");
    else this.#handlers?.message(topic, from, opened);
  }

  async #serve(stream: Stream, connection: Connection): Promise<void> {
    const from = NodeId.parse(connection.remotePeer.toString());
    const { perSecond, burst } = REQUEST_PACE;
    // Of a host, however many connections and streams it makes.
    const pace = this.#paces.get(from) ?? new TokenBucket(perSecond, burst, performance.now());
    this.#paces.set(from, pace);
    openWindowByHalves(stream);
    await serveRequests(
      stream,
      async (body) => {
        const answer = await this.#handlers?.request(from, body);
        if (answer === undefined) throw new Error("not running");
        return answer;
      },
      pace,
    );
    // An honest host has one as long as it is connected; what a stream may buffer is not to be had again
    // and again.
    this.#bears(from, ENDED_STREAM_WORK);
  }

  /** Whether what a peer sends is to be looked at; who sends far more is cut off for a while. */
  #bears(peer: NodeId, work: number): boolean {
    const verdict = this.#flood.take(peer, work, performance.now());
    if (verdict === "cut") {
      this.#count("floodCut");
      for (const connection of this.#node?.getConnections(peerIdFromString(peer)) ?? [])
        connection.abort(new Error("it sends more than can be borne"));
    }
    return verdict === "pass";
  }

  #started(): Libp2p<Services> {
    if (this.#node === undefined)
      throw new OverlayError({ code: "UNREACHABLE", message: "the mesh is not running" });
    return this.#node;
  }

  #count(what: string): void {
    this.#counters[what] = (this.#counters[what] ?? 0) + 1;
  }
}

interface HandlesRpcs {
  handleReceivedRpc(from: PeerId, rpc: { messages: { data?: Uint8Array }[] }): Promise<void>;
}

/** Before anything is hashed, opened or handed on; gossipsub itself has no bound for what a peer publishes. */
function limitGossip(service: GossipSub, bears: (peer: NodeId, work: number) => boolean): void {
  // Public in its class (GossipSub of gossipsub.ts), and not in the interface that is exported.
  const pubsub = service as unknown as HandlesRpcs;
  assert(typeof pubsub.handleReceivedRpc === "function", "this gossipsub can be limited");
  const handle = pubsub.handleReceivedRpc.bind(pubsub);
  pubsub.handleReceivedRpc = async (from, rpc) => {
    const work = gossipWork(rpc.messages.map(({ data }) => data?.length ?? 0));
    if (bears(NodeId.parse(from.toString()), work)) await handle(from, rpc);
  };
}

function listenFailure(error: unknown, { address, port }: MeshOptions["listen"]): OverlayError {
  const where = `${address}:${port}`;
  const text = [asFailure(error).message, String((error as Error).cause)].join(" ");
  const taken = /EADDRINUSE|address already in use/i.test(text);
  return new OverlayError(
    {
      code: taken ? "PORT_TAKEN" : "INTERNAL",
      message: taken
        ? `the mesh port ${where}/tcp is taken by ${portHolder("tcp", port) ?? "another program"}`
        : `the mesh cannot listen on ${where}/tcp: ${asFailure(error).message}`,
      next: taken
        ? `end it, or give it another port: \`ss -Htlnp sport = :${port}\``
        : "check that the address is still this host's (`ip address`)",
    },
    { cause: error },
  );
}
