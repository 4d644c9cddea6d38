import { hostCidr, Ip } from "../../../shared/ip.ts";
import type { Cidr } from "../../../shared/ip.ts";
import type {
  PeerChange,
  WireguardEndpoint,
  WireguardKey,
  WireguardPeerState,
} from "../../core/keys/wireguard.ts";
import type { WireguardDevice } from "../../kernel/netlink/wireguard.ts";

/**
 * The configuration protocol of WireGuard in processes (wireguard.com/xplatform): lines of
 * `key=value` in both directions, an empty one at the end, the answer's last `errno=`.
 */

export const GET = "get=1\n\n";

export function setIdentity(privateKey: Buffer, listenPort: number): string {
  return `set=1\nprivate_key=${privateKey.toString("hex")}\nlisten_port=${listenPort}\n\n`;
}

export function changePeers(changes: readonly PeerChange[]): string {
  return `set=1\n${changes.flatMap(encodeChange).join("\n")}\n\n`;
}

function encodeChange(change: PeerChange): string[] {
  const lines = [`public_key=${Buffer.from(change.publicKey, "base64").toString("hex")}`];
  // Said first: a peer that is not there is not made for it.
  if (change.kind !== "add") lines.push("update_only=true");
  if (change.kind === "remove") return [...lines, "remove=true"];
  const { endpoint, inside, keepaliveSeconds } = change;
  if (endpoint !== undefined) lines.push(`endpoint=${encodeEndpoint(endpoint)}`);
  if (keepaliveSeconds !== undefined)
    lines.push(`persistent_keepalive_interval=${keepaliveSeconds}`);
  if (inside !== undefined)
    lines.push("replace_allowed_ips=true", `allowed_ip=${hostCidr(inside)}`);
  return lines;
}

function encodeEndpoint({ ip, port }: WireguardEndpoint): string {
  return ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;
}

function decodeEndpoint(text: string): WireguardEndpoint | undefined {
  const colon = text.lastIndexOf(":");
  const ip = Ip.safeParse(text.slice(0, colon).replace(/^\[(.*)\]$/, "$1"));
  return ip.success ? { ip: ip.data, port: Number(text.slice(colon + 1)) } : undefined;
}

export interface UapiAnswer {
  readonly errno: number;
  readonly lines: readonly (readonly [key: string, value: string])[];
}

/** Undefined: it has not come whole. */
export function decodeAnswer(text: string): UapiAnswer | undefined {
  if (!text.endsWith("\n\n")) return undefined;
  const lines = text
    .trim()
    .split("\n")
    .map((line) => {
      const equals = line.indexOf("=");
      return [line.slice(0, equals), line.slice(equals + 1)] as const;
    });
  const errno = lines.find(([key]) => key === "errno")?.[1];
  return { errno: errno === undefined ? 0 : Number(errno), lines };
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** The device says its private key; `publicKeyOf` makes of it what may be shown. */
export function decodeDevice(
  { lines }: UapiAnswer,
  publicKeyOf: (privateKey: Buffer) => WireguardKey,
): WireguardDevice {
  let publicKey: WireguardKey | undefined;
  let listenPort = 0;
  const peers: (Mutable<WireguardPeerState> & { allowed: Cidr[] })[] = [];
  for (const [key, value] of lines) {
    const peer = peers.at(-1);
    switch (key) {
      case "private_key":
        if (/[^0]/.test(value)) publicKey = publicKeyOf(Buffer.from(value, "hex"));
        break;
      case "listen_port":
        listenPort = Number(value);
        break;
      case "public_key":
        peers.push(emptyPeer(Buffer.from(value, "hex").toString("base64") as WireguardKey));
        break;
      case "endpoint":
        if (peer !== undefined) peer.endpoint = decodeEndpoint(value);
        break;
      case "allowed_ip":
        peer?.allowed.push(value as Cidr);
        break;
      case "persistent_keepalive_interval":
        if (peer !== undefined) peer.keepaliveSeconds = Number(value);
        break;
      case "last_handshake_time_sec":
        if (peer !== undefined && value !== "0") peer.lastHandshakeMs = Number(value) * 1000;
        break;
      case "last_handshake_time_nsec":
        if (peer?.lastHandshakeMs !== undefined)
          peer.lastHandshakeMs += Math.floor(Number(value) / 1e6);
        break;
      case "rx_bytes":
        if (peer !== undefined) peer.rxBytes = Number(value);
        break;
      case "tx_bytes":
        if (peer !== undefined) peer.txBytes = Number(value);
        break;
    }
  }
  return { publicKey, listenPort, peers };
}

function emptyPeer(publicKey: WireguardKey): WireguardPeerState & { allowed: Cidr[] } {
  return {
    publicKey,
    endpoint: undefined,
    allowed: [],
    keepaliveSeconds: 0,
    lastHandshakeMs: undefined,
    rxBytes: 0,
    txBytes: 0,
  };
}
