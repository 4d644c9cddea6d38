import { yamux } from "@chainsafe/libp2p-yamux";
import { generateKeyPairFromSeed } from "@libp2p/crypto/keys";
import { RPC } from "@libp2p/gossipsub/message";
import type { Connection, Stream } from "@libp2p/interface";
import { tcp } from "@libp2p/tcp";
import { lpStream } from "@libp2p/utils";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p, type Libp2p } from "libp2p";
import { AdmissionRules } from "../../agent/replication/gossip/admission-rules.ts";
import { admittedNoise } from "../../agent/replication/gossip/admitted-noise.ts";
import type { MeshPeer } from "../../agent/replication/gossip/port.ts";
import type { SignedNodeClaim } from "../../shared/cluster-state.ts";
import { protocolsOf } from "../../shared/wire-version.ts";

export interface RawMemberOptions {
  readonly seed: Uint8Array;
  readonly claim: SignedNodeClaim;
  readonly rootKey: Uint8Array;
}

export interface Published {
  readonly topic: string;
  readonly data: Uint8Array;
}

/** An admitted host that speaks the mesh's protocols by hand, and keeps to no rule of them. */
export class RawMember {
  readonly #node: Libp2p;

  private constructor(node: Libp2p) {
    this.#node = node;
  }

  static async open({ seed, claim, rootKey }: RawMemberOptions): Promise<RawMember> {
    // It lets everybody in whom the controller ever admitted.
    const rules = new AdmissionRules(rootKey);
    const node = await createLibp2p({
      privateKey: await generateKeyPairFromSeed("Ed25519", seed),
      transports: [tcp()],
      connectionEncrypters: [admittedNoise({ claim, rules, refused: () => {} })],
      streamMuxers: [yamux()],
    });
    return new RawMember(node);
  }

  dial({ node, address, port }: MeshPeer): Promise<Connection> {
    const family = address.includes(":") ? "ip6" : "ip4";
    return this.#node.dial(multiaddr(`/${family}/${address}/tcp/${port}/p2p/${node}`));
  }

  async close(): Promise<void> {
    await this.#node.stop();
  }
}

/** A stream of gossipsub; each word may hold many messages. */
export async function gossipTo(connection: Connection) {
  const stream = await connection.newStream("/meshsub/1.2.0");
  const framed = lpStream(stream);
  return {
    stream,
    say: (messages: readonly Published[]): Promise<void> =>
      framed.write(RPC.encode({ subscriptions: [], messages: [...messages] })),
  };
}

export function requestsTo(connection: Connection): Promise<Stream> {
  return connection.newStream(protocolsOf("sync"));
}
