import { noise } from "@chainsafe/libp2p-noise";
import { yamux } from "@chainsafe/libp2p-yamux";
import { generateKeyPairFromSeed } from "@libp2p/crypto/keys";
import { tcp } from "@libp2p/tcp";
import { createLibp2p, type Libp2p } from "libp2p";
import { protocolsOf } from "../../shared/wire-version.ts";

export const CONTROL_PROTOCOLS = protocolsOf("control");
export const NEWS_PROTOCOLS = protocolsOf("news");
/** Of 0.1.0: each state whole. */
export const WATCH_PROTOCOLS = protocolsOf("watch");

/**
 * A handshake takes a tenth of a second at rest, and on hosts without CPU seconds at both ends. libp2p's own limits, of
 * which some are six seconds, would end it before the caller's.
 */
export const HANDSHAKE_TIMEOUT_MS = 20_000;

/**
 * libp2p with TCP, Noise and Yamux and nothing else: who is at the other end is proven by its key,
 * whether it may ask is the controller's to say, request by request.
 */
export async function controlNode(seed: Uint8Array, listen: string[]): Promise<Libp2p> {
  return createLibp2p({
    privateKey: await generateKeyPairFromSeed("Ed25519", seed),
    addresses: { listen },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    // A whole cluster may come at once after a power cut.
    connectionManager: {
      inboundConnectionThreshold: 1000,
      maxIncomingPendingConnections: 256,
      dialTimeout: HANDSHAKE_TIMEOUT_MS,
      addressDialTimeout: HANDSHAKE_TIMEOUT_MS,
      inboundUpgradeTimeout: HANDSHAKE_TIMEOUT_MS,
      inboundStreamProtocolNegotiationTimeout: HANDSHAKE_TIMEOUT_MS,
      maxConnections: 2000,
    },
    connectionMonitor: { enabled: false },
  });
}
