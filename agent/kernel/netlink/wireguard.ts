import { bytesToIp, type Cidr, familyOf, type Ip, ipToBytes } from "../../../shared/ip.ts";
import type {
  PeerChange,
  WireguardEndpoint,
  WireguardKey,
  WireguardPeerState,
} from "../../core/keys/wireguard.ts";
import {
  attr,
  type Attributes,
  decodeAttributes,
  decodeList,
  nest,
  type NetlinkMessage,
  text,
  u16,
  u32,
  u8,
} from "./codec.ts";
import { decodeGenl, genlRequest } from "./genl.ts";
import type { Request } from "./socket.ts";

/** The generic netlink family `wireguard` (linux/wireguard.h), asked in the device's namespace. */

export const WIREGUARD_FAMILY = "wireguard";
const VERSION = 1;
const COMMAND = { get: 0, set: 1 } as const;
const DEVICE = { ifname: 2, privateKey: 3, publicKey: 4, listenPort: 6, peers: 8 } as const;
const PEER = {
  publicKey: 1,
  flags: 3,
  endpoint: 4,
  keepalive: 5,
  lastHandshake: 6,
  rxBytes: 7,
  txBytes: 8,
  allowedIps: 9,
} as const;
const ALLOWED = { family: 1, address: 2, prefixLength: 3 } as const;
const PEER_FLAG = { remove: 1, replaceAllowed: 2, updateOnly: 4 } as const;
const AF_INET = 2;
const AF_INET6 = 10;
/** A nest holds 64 KiB; a peer of ours takes at most 124 bytes. */
const PEERS_IN_A_MESSAGE = 256;

/** The private key is in the message, and in nothing that is said of it. */
export function setIdentity(
  family: number,
  device: string,
  privateKey: Buffer,
  listenPort: number,
): Request {
  return genlRequest(`WG_CMD_SET_DEVICE ${device}`, family, COMMAND.set, VERSION, [
    attr(DEVICE.ifname, text(device)),
    attr(DEVICE.privateKey, privateKey),
    attr(DEVICE.listenPort, u16(listenPort)),
  ]);
}

/** Peers that are not named stay as they are, with their sessions. */
export function changePeers(
  family: number,
  device: string,
  changes: readonly PeerChange[],
): Request[] {
  const requests: Request[] = [];
  for (let at = 0; at < changes.length; at += PEERS_IN_A_MESSAGE) {
    const some = changes.slice(at, at + PEERS_IN_A_MESSAGE);
    const op = `WG_CMD_SET_DEVICE ${device}, ${some.length} peers`;
    requests.push(
      genlRequest(op, family, COMMAND.set, VERSION, [
        attr(DEVICE.ifname, text(device)),
        nest(DEVICE.peers, ...some.map(encodeChange)),
      ]),
    );
  }
  return requests;
}

export function dumpDevice(family: number, device: string): Request {
  const name = attr(DEVICE.ifname, text(device));
  return genlRequest(`WG_CMD_GET_DEVICE ${device}`, family, COMMAND.get, VERSION, [name]);
}

function encodeChange(change: PeerChange): Buffer {
  const key = attr(PEER.publicKey, Buffer.from(change.publicKey, "base64"));
  if (change.kind === "remove")
    return nest(0, key, attr(PEER.flags, u32(PEER_FLAG.remove | PEER_FLAG.updateOnly)));
  const { endpoint, inside, keepaliveSeconds } = change;
  const flags =
    (change.kind === "update" ? PEER_FLAG.updateOnly : 0) |
    (inside === undefined ? 0 : PEER_FLAG.replaceAllowed);
  return nest(
    0,
    key,
    attr(PEER.flags, u32(flags)),
    ...(endpoint === undefined ? [] : [attr(PEER.endpoint, encodeEndpoint(endpoint))]),
    ...(keepaliveSeconds === undefined ? [] : [attr(PEER.keepalive, u16(keepaliveSeconds))]),
    ...(inside === undefined ? [] : [nest(PEER.allowedIps, encodeAllowed(inside))]),
  );
}

function encodeAllowed(ip: Ip): Buffer {
  const bytes = ipToBytes(ip);
  return nest(
    0,
    attr(ALLOWED.family, u16(familyOf(ip) === 4 ? AF_INET : AF_INET6)),
    attr(ALLOWED.address, bytes),
    attr(ALLOWED.prefixLength, u8(bytes.length * 8)),
  );
}

/** `struct sockaddr_in` or `sockaddr_in6`. */
function encodeEndpoint({ ip, port }: WireguardEndpoint): Buffer {
  const out = Buffer.alloc(familyOf(ip) === 4 ? 16 : 28);
  out.writeUInt16LE(familyOf(ip) === 4 ? AF_INET : AF_INET6, 0);
  out.writeUInt16BE(port, 2);
  out.set(ipToBytes(ip), familyOf(ip) === 4 ? 4 : 8);
  return out;
}

function decodeEndpoint(value: Buffer | undefined): WireguardEndpoint | undefined {
  if (value === undefined) return undefined;
  const isIpv4 = value.readUInt16LE(0) === AF_INET;
  const ip = bytesToIp(isIpv4 ? value.subarray(4, 8) : value.subarray(8, 24));
  return { ip, port: value.readUInt16BE(2) };
}

export interface WireguardDevice {
  /** Undefined: it has no private key yet. */
  readonly publicKey: WireguardKey | undefined;
  readonly listenPort: number;
  readonly peers: readonly WireguardPeerState[];
}

/** A device with many peers comes in several messages, and one peer may be split between two. */
export function decodeDevice(messages: readonly NetlinkMessage[]): WireguardDevice {
  let publicKey: WireguardKey | undefined;
  let listenPort = 0;
  const peers = new Map<WireguardKey, WireguardPeerState>();
  for (const { payload } of messages) {
    const device = decodeGenl(payload);
    publicKey ??= decodeKey(device.get(DEVICE.publicKey));
    listenPort = device.get(DEVICE.listenPort)?.readUInt16LE() ?? listenPort;
    for (const entry of decodeList(device.get(DEVICE.peers) ?? Buffer.alloc(0))) {
      const peer = decodePeer(decodeAttributes(entry));
      if (peer === undefined) continue;
      const begun = peers.get(peer.publicKey);
      peers.set(
        peer.publicKey,
        begun === undefined ? peer : { ...begun, allowed: [...begun.allowed, ...peer.allowed] },
      );
    }
  }
  return { publicKey, listenPort, peers: [...peers.values()] };
}

function decodePeer(peer: Attributes): WireguardPeerState | undefined {
  const publicKey = decodeKey(peer.get(PEER.publicKey));
  if (publicKey === undefined) return undefined;
  return {
    publicKey,
    endpoint: decodeEndpoint(peer.get(PEER.endpoint)),
    allowed: decodeList(peer.get(PEER.allowedIps) ?? Buffer.alloc(0)).flatMap(
      (entry) => decodeAllowed(decodeAttributes(entry)) ?? [],
    ),
    keepaliveSeconds: peer.get(PEER.keepalive)?.readUInt16LE() ?? 0,
    lastHandshakeMs: decodeTime(peer.get(PEER.lastHandshake)),
    rxBytes: Number(peer.get(PEER.rxBytes)?.readBigUInt64LE() ?? 0n),
    txBytes: Number(peer.get(PEER.txBytes)?.readBigUInt64LE() ?? 0n),
  };
}

function decodeAllowed(entry: Attributes): Cidr | undefined {
  const address = entry.get(ALLOWED.address);
  const length = entry.get(ALLOWED.prefixLength)?.readUInt8();
  // Host bits are zero: the kernel keeps it so (net/wireguard: allowedips.c).
  return address === undefined || length === undefined
    ? undefined
    : (`${bytesToIp(address)}/${length}` as Cidr);
}

/** `struct __kernel_timespec`; zero is never. */
function decodeTime(value: Buffer | undefined): number | undefined {
  if (value === undefined) return undefined;
  const ms =
    Number(value.readBigInt64LE(0)) * 1000 + Math.floor(Number(value.readBigInt64LE(8)) / 1e6);
  return ms === 0 ? undefined : ms;
}

function decodeKey(value: Buffer | undefined): WireguardKey | undefined {
  const set = value?.some((byte) => byte !== 0) === true;
  return set ? (value.toString("base64") as WireguardKey) : undefined;
}
