import { bytesToIp, familyOf, type Ip, ipToBytes } from "../../../shared/ip.ts";
import { type Mac, macToBytes } from "../../../shared/mac.ts";
import {
  addressFamily,
  attr,
  type Attributes,
  CREATE,
  decodeAttributes,
  decodeText,
  type NetlinkMessage,
  REPLACE,
  text,
  u8,
  u16be,
  u32,
} from "./codec.ts";
import { decodeMac } from "./link-address.ts";
import { RTM_DELNEIGH } from "./neighbour.ts";
import { RTM_DELROUTE, RTM_DELRULE, RTM_NEWRULE } from "./routing.ts";
import type { Request } from "./socket.ts";

/** rtnetlink messages on links and addresses (linux/rtnetlink.h, if_link.h), as requests and back. */

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const EXCL = 0x200;
const IFF_UP = 1;
/** Ours alone to give out: no need to ask whether somebody has it already (linux/if_addr.h). */
const IFA_F_NODAD = 2;
const IFA_TARGET_NETNSID = 10;

export const IFLA = {
  address: 1,
  ifname: 3,
  mtu: 4,
  link: 5,
  master: 10,
  linkinfo: 18,
  alias: 20,
  netnsFd: 28,
  extMask: 29,
  linkNetnsId: 37,
  targetNetnsId: 46,
} as const;
const RTEXT_FILTER_SKIP_STATS = 8;
export const LINKINFO = { kind: 1, data: 2, slaveKind: 4, slaveData: 5 } as const;
const VXLAN = { id: 1, ttl: 5, local: 4, learning: 7, port: 15, local6: 17, df: 29 } as const;
const BRPORT_ISOLATED = 33;
const BR_MCAST_SNOOPING = 23;
const VETH_INFO_PEER = 1;
const VXLAN_TTL = 64;
const VXLAN_DF_SET = 1;

function ifinfo(index: number, up: boolean): Buffer {
  const out = Buffer.alloc(16);
  out.writeInt32LE(index, 4);
  out.writeUInt32LE(up ? IFF_UP : 0, 8);
  out.writeUInt32LE(up ? IFF_UP : 0, 12);
  return out;
}

export function newLink(
  op: string,
  index: number,
  up: boolean,
  attributes: Buffer[],
  flags = CREATE | EXCL,
): Request {
  return { op, type: RTM_NEWLINK, flags, parts: [ifinfo(index, up), ...attributes] };
}

export function addBridge(name: string, mac: Mac, mtuBytes: number): Request {
  return newLink(`RTM_NEWLINK bridge ${name}`, 0, true, [
    attr(IFLA.ifname, text(name)),
    attr(IFLA.address, macToBytes(mac)),
    attr(IFLA.mtu, u32(mtuBytes)),
    bridgeSettings(),
  ]);
}

/** What a bridge is made with, while it stands. */
export function setBridge(index: number): Request {
  return newLink(`IFLA_BR_MCAST_SNOOPING ${index}`, index, true, [bridgeSettings()], 0);
}

/** Also of the same MAC the kernel forgets all neighbours of the link. */
export function setMac(index: number, mac: Mac): Request {
  return newLink(`IFLA_ADDRESS ${mac}`, index, true, [attr(IFLA.address, macToBytes(mac))], 0);
}

function bridgeSettings(): Buffer {
  return attr(
    IFLA.linkinfo,
    attr(LINKINFO.kind, text("bridge")),
    attr(LINKINFO.data, attr(BR_MCAST_SNOOPING, u8(0))),
  );
}

export interface VxlanShape {
  readonly vni: number;
  readonly udpPort: number;
  readonly localVtep: Ip;
  readonly mtuBytes: number;
}

/** Sent on the host's socket: the device is born in `netnsFd`, its UDP socket stays in the host. */
export function addVxlan(name: string, shape: VxlanShape, mac: Mac, netnsFd: number): Request {
  const local = familyOf(shape.localVtep) === 4 ? VXLAN.local : VXLAN.local6;
  return newLink(`RTM_NEWLINK vxlan ${name} vni ${shape.vni}`, 0, false, [
    attr(IFLA.ifname, text(name)),
    attr(IFLA.address, macToBytes(mac)),
    attr(IFLA.mtu, u32(shape.mtuBytes)),
    attr(IFLA.netnsFd, u32(netnsFd)),
    attr(
      IFLA.linkinfo,
      attr(LINKINFO.kind, text("vxlan")),
      attr(
        LINKINFO.data,
        attr(VXLAN.id, u32(shape.vni)),
        attr(local, ipToBytes(shape.localVtep)),
        attr(VXLAN.ttl, u8(VXLAN_TTL)),
        attr(VXLAN.learning, u8(0)),
        attr(VXLAN.port, u16be(shape.udpPort)),
        attr(VXLAN.df, u8(VXLAN_DF_SET)),
      ),
    ),
  ]);
}

/**
 * Its packets come from another address from now on; entries, port and socket stay. The kernel takes no other
 * family (vxlan_nl2conf of drivers/net/vxlan/vxlan_core.c).
 */
export function setVxlanLocal({ index, name }: Pick<Link, "index" | "name">, local: Ip): Request {
  const attribute = familyOf(local) === 4 ? VXLAN.local : VXLAN.local6;
  const info = attr(
    IFLA.linkinfo,
    attr(LINKINFO.kind, text("vxlan")),
    attr(LINKINFO.data, attr(attribute, ipToBytes(local))),
  );
  return newLink(`IFLA_VXLAN_LOCAL ${name} ${local}`, index, true, [info], 0);
}

/**
 * Sent on the host's socket, as for VXLAN: born in `netnsFd`, its UDP socket is the host's. It opens
 * when the device is up.
 */
export function addWireguard(name: string, mtuBytes: number, netnsFd: number): Request {
  return newLink(`RTM_NEWLINK wireguard ${name}`, 0, false, [
    attr(IFLA.ifname, text(name)),
    attr(IFLA.mtu, u32(mtuBytes)),
    attr(IFLA.netnsFd, u32(netnsFd)),
    attr(IFLA.linkinfo, attr(LINKINFO.kind, text("wireguard"))),
  ]);
}

/** To another namespace, where it is down and has this name; `eth%d` is the first of such that is free. */
export function moveLink(index: number, name: string, netnsFd: number): Request {
  const parts = [attr(IFLA.netnsFd, u32(netnsFd)), attr(IFLA.ifname, text(name))];
  return newLink(`IFLA_NET_NS_FD ${name}`, index, false, parts, 0);
}

/** `name` here, `peer` in its namespace with the container's MAC. */
export function addVeth(
  name: string,
  peer: { name: string; mac: Mac; netnsFd: number },
  mtuBytes: number,
): Request {
  const peerInfo = Buffer.concat([
    ifinfo(0, false),
    attr(IFLA.ifname, text(peer.name)),
    attr(IFLA.address, macToBytes(peer.mac)),
    attr(IFLA.mtu, u32(mtuBytes)),
    attr(IFLA.netnsFd, u32(peer.netnsFd)),
  ]);
  return newLink(`RTM_NEWLINK veth ${name}`, 0, false, [
    attr(IFLA.ifname, text(name)),
    attr(IFLA.mtu, u32(mtuBytes)),
    attr(
      IFLA.linkinfo,
      attr(LINKINFO.kind, text("veth")),
      attr(LINKINFO.data, attr(VETH_INFO_PEER, peerInfo)),
    ),
  ]);
}

/** To no other isolated port of its bridge goes a frame from this one. */
export function isolatePort({ index, name }: Pick<Link, "index" | "name">): Request {
  const flags = attr(LINKINFO.slaveData, attr(BRPORT_ISOLATED, u8(1)));
  const info = attr(IFLA.linkinfo, attr(LINKINFO.slaveKind, text("bridge")), flags);
  return newLink(`IFLA_BRPORT_ISOLATED ${name}`, index, false, [info], 0);
}

export function deleteLink(index: number, name: string): Request {
  return { op: `RTM_DELLINK ${name}`, type: RTM_DELLINK, flags: 0, parts: [ifinfo(index, false)] };
}

/** Not taken by the kernel when a link is made, only afterwards. */
export function setAlias(index: number, alias: string): Request {
  return newLink(`IFLA_IFALIAS ${alias}`, index, true, [attr(IFLA.alias, text(alias))], 0);
}

export function addAddress(index: number, ip: Ip, prefixLength: number): Request {
  const parts = addressParts(index, ip, prefixLength);
  return { op: `RTM_NEWADDR ${ip}`, type: RTM_NEWADDR, flags: CREATE | REPLACE, parts };
}

export function deleteAddress(index: number, ip: Ip, prefixLength: number): Request {
  const parts = addressParts(index, ip, prefixLength);
  return { op: `RTM_DELADDR ${ip}`, type: RTM_DELADDR, flags: 0, parts };
}

function addressParts(index: number, ip: Ip, prefixLength: number): Buffer[] {
  const head = Buffer.alloc(8);
  head.writeUInt8(addressFamily(familyOf(ip)), 0);
  head.writeUInt8(prefixLength, 1);
  head.writeUInt8(familyOf(ip) === 4 ? 0 : IFA_F_NODAD, 2);
  head.writeUInt32LE(index, 4);
  const bytes = ipToBytes(ip);
  // IFA_ADDRESS 1, IFA_LOCAL 2
  return [head, attr(2, bytes), attr(1, bytes)];
}

/** Without a word on whether it is up. */
export function setMtu(index: number, mtuBytes: number): Request {
  const parts = [attr(IFLA.mtu, u32(mtuBytes))];
  return newLink(`IFLA_MTU ${index}`, index, false, parts, 0);
}

export function setUp(index: number, mtuBytes: number): Request {
  return newLink(`IFF_UP ${index}`, index, true, [attr(IFLA.mtu, u32(mtuBytes))], 0);
}

export function setDown(index: number): Request {
  const info = ifinfo(index, true);
  info.writeUInt32LE(0, 8);
  return { op: `IFF_DOWN ${index}`, type: RTM_NEWLINK, flags: 0, parts: [info] };
}

/** Multicast groups of linux/rtnetlink.h, and what in them is news to us. */
export const RTNLGRP = {
  link: 1,
  neigh: 3,
  address: 5,
  route: 7,
  rule: 8,
  address6: 9,
  route6: 11,
  rule6: 19,
} as const;

/** A link that is new, changed or gone. */
export function changedLink(message: NetlinkMessage): Link | undefined {
  const isLink = message.type === RTM_NEWLINK || message.type === RTM_DELLINK;
  return isLink ? decodeLink(message) : undefined;
}

export function isLoss({ type, payload }: NetlinkMessage): boolean {
  switch (type) {
    case RTM_DELLINK:
    case RTM_DELNEIGH:
    case RTM_DELADDR:
    case RTM_DELROUTE:
    case RTM_DELRULE:
    // A rule comes before all routes: with a new one they may be of no use.
    case RTM_NEWRULE:
      return true;
    case RTM_NEWLINK:
      return (payload.readUInt32LE(8) & IFF_UP) === 0;
    default:
      return false;
  }
}

/** Without counters: they are most of what is said of a link, and nobody reads them. */
export const dumpLinks: Request = {
  op: "RTM_GETLINK",
  type: RTM_GETLINK,
  flags: 0,
  parts: [ifinfo(0, false), attr(IFLA.extMask, u32(RTEXT_FILTER_SKIP_STATS))],
};
export function getLink(name: string): Request {
  const parts = [...dumpLinks.parts, attr(IFLA.ifname, text(name))];
  return { ...dumpLinks, op: `RTM_GETLINK ${name}`, parts };
}

/** Of one link: the socket must be a strict one. */
export function dumpAddressesOf(index: number): Request {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(index, 4);
  return { ...dumpAddresses, op: `RTM_GETADDR ${index}`, parts: [head] };
}

export const dumpAddresses: Request = {
  op: "RTM_GETADDR",
  type: RTM_GETADDR,
  flags: 0,
  parts: [Buffer.alloc(8)],
};

/** Of another namespace, by the number that the socket's own has for it. The socket must be a strict one. */
export function inNamespace(dump: Request, netnsId: number): Request {
  const type = dump.type === RTM_GETADDR ? IFA_TARGET_NETNSID : IFLA.targetNetnsId;
  return {
    ...dump,
    op: `${dump.op} of namespace ${netnsId}`,
    parts: [...dump.parts, attr(type, u32(netnsId))],
  };
}

export interface Link {
  readonly index: number;
  readonly name: string;
  /** `vxlan`, `wireguard`, `tun`; empty for what was not made by a kind. */
  readonly kind: string;
  readonly alias: string;
  readonly mtuBytes: number;
  readonly up: boolean;
  /** Index of the bridge it is a port of, 0 for none. */
  readonly master: number;
  readonly mac: Mac | undefined;
  /** Of a veth whose other end is in another namespace: where, by this one's number for it, and its index there. */
  readonly peer: { readonly netnsId: number; readonly index: number } | undefined;
  /** Of a bridge port, as the kernel says them. */
  readonly portFlags: Attributes;
  /** Of a bridge port: see `isolatePort`. */
  readonly isolated: boolean;
  /** Of a bridge: it listens who wants which multicast, which ours does not. */
  readonly snoops: boolean;
  readonly vxlan: VxlanSettings | undefined;
}

export interface VxlanSettings {
  readonly vni: number;
  readonly udpPort: number;
  readonly localVtep: Ip;
  /** TTL, learning and DF are as `addVxlan` makes them. */
  readonly asMade: boolean;
}

export function decodeLink({ payload }: NetlinkMessage): Link {
  const attributes = decodeAttributes(payload.subarray(16));
  const info = decodeAttributes(attributes.get(IFLA.linkinfo) ?? Buffer.alloc(0));
  const kind = decodeText(info.get(LINKINFO.kind));
  const data = decodeAttributes(info.get(LINKINFO.data) ?? Buffer.alloc(0));
  const portFlags = decodeAttributes(info.get(LINKINFO.slaveData) ?? Buffer.alloc(0));
  return {
    index: payload.readInt32LE(4),
    name: decodeText(attributes.get(IFLA.ifname)),
    kind,
    alias: decodeText(attributes.get(IFLA.alias)),
    mtuBytes: attributes.get(IFLA.mtu)?.readUInt32LE() ?? 0,
    up: (payload.readUInt32LE(8) & IFF_UP) !== 0,
    master: attributes.get(IFLA.master)?.readUInt32LE() ?? 0,
    mac: decodeMac(attributes.get(IFLA.address)),
    peer: decodePeer(attributes),
    portFlags,
    isolated: portFlags.get(BRPORT_ISOLATED)?.readUInt8() === 1,
    snoops: kind === "bridge" && data.get(BR_MCAST_SNOOPING)?.readUInt8() === 1,
    vxlan: kind === "vxlan" ? decodeVxlan(data) : undefined,
  };
}

function decodePeer(attributes: Attributes): Link["peer"] {
  const netnsId = attributes.get(IFLA.linkNetnsId)?.readInt32LE() ?? -1;
  const index = attributes.get(IFLA.link)?.readUInt32LE();
  return netnsId < 0 || index === undefined ? undefined : { netnsId, index };
}

function decodeVxlan(data: Attributes): Link["vxlan"] {
  const local = data.get(VXLAN.local) ?? data.get(VXLAN.local6);
  const vni = data.get(VXLAN.id)?.readUInt32LE();
  const udpPort = data.get(VXLAN.port)?.readUInt16BE();
  if (local === undefined || vni === undefined || udpPort === undefined) return undefined;
  const asMade =
    data.get(VXLAN.ttl)?.readUInt8() === VXLAN_TTL &&
    data.get(VXLAN.learning)?.readUInt8() === 0 &&
    data.get(VXLAN.df)?.readUInt8() === VXLAN_DF_SET;
  return { vni, udpPort, localVtep: bytesToIp(local), asMade };
}

export interface Address {
  readonly index: number;
  readonly ip: Ip;
  readonly prefixLength: number;
}

export function decodeAddress({ payload }: NetlinkMessage): Address | undefined {
  const ip = decodeAttributes(payload.subarray(8)).get(1);
  if (ip === undefined) return undefined;
  return { index: payload.readUInt32LE(4), prefixLength: payload.readUInt8(1), ip: bytesToIp(ip) };
}
