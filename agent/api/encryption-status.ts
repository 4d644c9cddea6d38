import type { Failure } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import type { AgentParts } from "../agent.ts";
import type { KeyExchangeCounters } from "../core/keys/ipsec-pair.ts";
import type { Tunnel } from "../core/liveness/reach.ts";
import type { WithoutTunnel } from "../core/keys/wireguard.ts";

/** The encrypted classes of this host, for `status`. No key is in it, public ones of WireGuard apart. */
export interface EncryptionStatus {
  /** Undefined: no network of the cluster is of it. */
  readonly wireguard: WireguardStatus | undefined;
  /** Undefined: this host is on no network of it. */
  readonly ipsec: IpsecStatus | undefined;
}

export interface WireguardStatus {
  /** Why the class cannot be used on this host now. */
  readonly failure: Failure | undefined;
  readonly by: "kernel" | "wireguard-go" | undefined;
  readonly inside: Ip | undefined;
  readonly publicKey: string | undefined;
  readonly peers: readonly WireguardPeerStatus[];
  /** By the guards of its namespace, by reason. */
  readonly dropped: Readonly<Record<string, number>>;
}

/** It has all that it needs, and nothing comes back through it. */
const SILENT = "silent" as const;

export interface WireguardPeerStatus {
  readonly node: NodeId;
  readonly name: string;
  /** Containers of this host are reached: it has a key, and is not silent through the tunnel. */
  readonly path: boolean;
  /** Why there is no path. */
  readonly why: WithoutTunnel["reason"] | "not-in-device" | typeof SILENT | undefined;
  /** Of the last echo; undefined: not answered, or none was sent, since no network of the kind is shared. */
  readonly roundTripMs?: number | undefined;
  readonly endpoint: string | undefined;
  /** Undefined: never. */
  readonly handshakeSecondsAgo: number | undefined;
  readonly rxBytes: number;
  readonly txBytes: number;
}

export interface IpsecStatus {
  readonly failure: Failure | undefined;
  readonly peers: readonly IpsecPeerStatus[];
  readonly counters: Readonly<Partial<KeyExchangeCounters>>;
}

export interface IpsecPeerStatus {
  readonly node: NodeId;
  readonly name: string;
  /** As of WireGuard. */
  readonly path: boolean;
  /** As of WireGuard, undefined where it is not asked: 0.1.0 does not answer. */
  readonly roundTripMs?: number | undefined;
  /** Why there is no path, or no newer key. */
  readonly why: string | undefined;
  /** Of the key in use. */
  readonly keySeconds: number | undefined;
  readonly packets: number;
  readonly inbound: number;
}

export async function encryptionStatus(agent: AgentParts): Promise<EncryptionStatus> {
  return { wireguard: await wireguardStatus(agent), ipsec: ipsecStatus(agent) };
}

async function wireguardStatus(agent: AgentParts): Promise<WireguardStatus | undefined> {
  const { wireguard } = agent.encryption;
  const failure = wireguard.failure();
  const reading = wireguard.reading();
  if (reading === undefined && failure === undefined) return undefined;
  const state = await agent.adapters.encryption.wireguard.read().catch(() => undefined);
  const held = new Map(state?.peers.map((peer) => [peer.publicKey, peer]));
  const paths = wireguard.paths();
  const answers = answersThrough(agent, "wireguard");
  const peers = [...(reading?.peersOf ?? [])].map(([node, { publicKey }]) => {
    const peer = held.get(publicKey);
    const isHeld = paths?.remote.has(node) === true;
    const { endpoint, lastHandshakeMs } = peer ?? {};
    return {
      node,
      name: nameOf(agent, node),
      ...answers(node, isHeld, isHeld ? undefined : ("not-in-device" as const)),
      endpoint: endpoint && `${endpoint.ip} ${endpoint.port}`,
      handshakeSecondsAgo:
        lastHandshakeMs === undefined
          ? undefined
          : Math.max(0, Math.round((Date.now() - lastHandshakeMs) / 1000)),
      rxBytes: peer?.rxBytes ?? 0,
      txBytes: peer?.txBytes ?? 0,
    };
  });
  const without = (reading?.without ?? []).map(({ node, reason }) => ({
    node,
    name: nameOf(agent, node),
    path: false,
    why: reason,
    endpoint: undefined,
    handshakeSecondsAgo: undefined,
    rxBytes: 0,
    txBytes: 0,
  }));
  return {
    failure,
    by: state?.by,
    inside: state?.inside,
    publicKey: state?.publicKey,
    peers: [...peers, ...without],
    dropped:
      (await wireguard
        .guards()
        ?.guards.counters()
        .catch(() => undefined)) ?? {},
  };
}

function ipsecStatus(agent: AgentParts): IpsecStatus | undefined {
  const { ipsec } = agent.encryption;
  const failure = ipsec.failure();
  const status = ipsec.status();
  if (status === undefined && failure === undefined) return undefined;
  const answers = answersThrough(agent, "ipsec");
  return {
    failure,
    peers: (status?.peers ?? []).map(({ node, ready, sending, inbound, failure: why }) => ({
      node,
      name: nameOf(agent, node),
      ...answers(node, ready, why),
      keySeconds: sending && Math.round((performance.now() - sending.sinceMs) / 1000),
      packets: sending?.packets ?? 0,
      inbound,
    })),
    counters: status?.counters ?? {},
  };
}

/** What becomes of questions through the tunnel. `has`: all that the path needs here; `why`: what it has not. */
function answersThrough({ dataPaths, reach }: AgentParts, tunnel: Tunnel) {
  const lost = reach.lostThrough(tunnel);
  const results = new Map(dataPaths.results(tunnel).map((result) => [result.node, result]));
  return <Why extends string | undefined>(node: NodeId, has: boolean, why: Why) => {
    const isSilent = has && lost.has(node);
    return {
      path: has && !isSilent,
      why: isSilent ? SILENT : why,
      roundTripMs: results.get(node)?.roundTripMs,
    };
  };
}

function nameOf(agent: AgentParts, node: NodeId): string {
  const { state } = agent.replication.tables;
  return state?.nodes.find(({ id }) => id === node)?.name ?? node;
}
