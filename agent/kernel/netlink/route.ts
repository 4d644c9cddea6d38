import { bytesToIp, familyOf, type Ip, ipToBytes } from "../../../shared/ip.ts";
import { bytesToMac, type Mac, macToBytes } from "../../../shared/mac.ts";
import {
  attr,
  type Attributes,
  decodeAttributes,
  decodeText,
  type NetlinkMessage,
  text,
  u8,
  u16be,
  u32,
} from "./codec.ts";
import type { Request } from "./socket.ts";

/** rtnetlink messages we use (linux/rtnetlink.h, if_link.h, neighbour.h), as requests and back. */

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;
const CREATE = 0x400;
const EXCL = 0x200;
const REPLACE = 0x100;
const APPEND = 0x800;
const AF_INET = 2;
const AF_BRIDGE = 7;
const AF_INET6 = 10;
const IFF_UP = 1;
/** Ours alone to give out: no need to ask whether somebody has it already (linux/if_addr.h). */
const IFA_F_NODAD = 2;

const IFLA = {
  address: 1,
  ifname: 3,
  mtu: 4,
  master: 10,
  linkinfo: 18,
  alias: 20,
  netnsFd: 28,
  extMask: 29,
} as const;
const RTEXT_FILTER_SKIP_STATS = 8;
const LINKINFO = { kind: 1, data: 2, slaveKind: 4, slaveData: 5 } as const;
const VXLAN = { id: 1, ttl: 5, local: 4, learning: 7, port: 15, local6: 17, df: 29 } as const;
const BRPORT = {
  learning: 8,
  unicastFlood: 9,
  mcastFlood: 27,
  bcastFlood: 30,
  neighSuppress: 32,
  locked: 39,
} as const;
const BR_MCAST_SNOOPING = 23;
const VETH_INFO_PEER = 1;
const VXLAN_DF_SET = 1;
const NDA = { dst: 1, lladdr: 2, master: 9 } as const;
const NTF = { self: 2, master: 4, extLearned: 0x10 } as const;
const NUD = { reachable: 2, noarp: 0x40, permanent: 0x80 } as const;

function ifinfo(index: number, up: boolean): Buffer {
  const out = Buffer.alloc(16);
  out.writeInt32LE(index, 4);
  out.writeUInt32LE(up ? IFF_UP : 0, 8);
  out.writeUInt32LE(up ? IFF_UP : 0, 12);
  return out;
}

function ndmsg(family: number, index: number, state: number, flags: number): Buffer {
  const out = Buffer.alloc(12);
  out.writeUInt8(family, 0);
  out.writeInt32LE(index, 4);
  out.writeUInt16LE(state, 8);
  out.writeUInt8(flags, 10);
  return out;
}

function newLink(
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
    attr(
      IFLA.linkinfo,
      attr(LINKINFO.kind, text("bridge")),
      attr(LINKINFO.data, attr(BR_MCAST_SNOOPING, u8(0))),
    ),
  ]);
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
        attr(VXLAN.ttl, u8(64)),
        attr(VXLAN.learning, u8(0)),
        attr(VXLAN.port, u16be(shape.udpPort)),
        attr(VXLAN.df, u8(VXLAN_DF_SET)),
      ),
    ),
  ]);
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

/** To another namespace, where it is down and keeps its name. */
export function moveLink(index: number, name: string, netnsFd: number): Request {
  return newLink(`IFLA_NET_NS_FD ${name}`, index, false, [attr(IFLA.netnsFd, u32(netnsFd))], 0);
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

/** `vxlanFlood`: of a network whose broadcast and multicast leave the host. */
export type PortRole = "vxlan" | "vxlanFlood" | "container";

/** Into the bridge, with the role's flags, up. Two messages: the flags need the port to exist. */
export function makePort(index: number, bridge: number, role: PortRole): Request[] {
  const on = (type: number): Buffer => attr(type, u8(1));
  const off = (type: number): Buffer => attr(type, u8(0));
  const copies = role === "vxlanFlood" ? on : off;
  const flags =
    role === "container"
      ? [on(BRPORT.locked)]
      : [copies(BRPORT.mcastFlood), copies(BRPORT.bcastFlood), on(BRPORT.neighSuppress)];
  return [
    newLink(`IFLA_MASTER ${role}`, index, false, [attr(IFLA.master, u32(bridge))], 0),
    newLink(
      `IFLA_BRPORT ${role}`,
      index,
      true,
      [
        attr(
          IFLA.linkinfo,
          attr(LINKINFO.slaveKind, text("bridge")),
          attr(LINKINFO.slaveData, off(BRPORT.learning), off(BRPORT.unicastFlood), ...flags),
        ),
      ],
      0,
    ),
  ];
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
  head.writeUInt8(familyOf(ip) === 4 ? AF_INET : AF_INET6, 0);
  head.writeUInt8(prefixLength, 1);
  head.writeUInt8(familyOf(ip) === 4 ? 0 : IFA_F_NODAD, 2);
  head.writeUInt32LE(index, 4);
  const bytes = ipToBytes(ip);
  // IFA_ADDRESS 1, IFA_LOCAL 2
  return [head, attr(2, bytes), attr(1, bytes)];
}

/**
 * VXLAN's and the bridge's entry in one message. NOARP alone is refused by VXLAN after the
 * bridge's half was written; without EXT_LEARNED the bridge takes the MAC for its own.
 */
export function putFdb(vxlan: number, mac: Mac, vtep: Ip): Request {
  // One buffer and no text: this is written for every container of a network.
  const destination = ipToBytes(vtep);
  const message = Buffer.alloc(28 + destination.length);
  message.writeUInt8(AF_BRIDGE, 0);
  message.writeInt32LE(vxlan, 4);
  message.writeUInt16LE(NUD.noarp | NUD.reachable, 8);
  message.writeUInt8(NTF.self | NTF.master | NTF.extLearned, 10);
  message.writeUInt16LE(4 + 6, 12);
  message.writeUInt16LE(NDA.lladdr, 14);
  message.write(mac.replaceAll(":", ""), 16, "hex");
  message.writeUInt16LE(4 + destination.length, 24);
  message.writeUInt16LE(NDA.dst, 26);
  message.set(destination, 28);
  return {
    get op() {
      return `RTM_NEWNEIGH fdb ${mac} ${vtep}`;
    },
    type: RTM_NEWNEIGH,
    flags: CREATE | REPLACE,
    parts: [message],
  };
}

/** VXLAN's half alone, for a device that is in no bridge. */
export function putSelfFdb(vxlan: number, mac: Mac, vtep: Ip): Request {
  const head = ndmsg(AF_BRIDGE, vxlan, NUD.noarp | NUD.permanent, NTF.self);
  const parts = [head, attr(NDA.lladdr, macToBytes(mac)), attr(NDA.dst, ipToBytes(vtep))];
  return {
    op: `RTM_NEWNEIGH fdb self ${mac} ${vtep}`,
    type: RTM_NEWNEIGH,
    flags: CREATE | REPLACE,
    parts,
  };
}

const ZERO_MAC = Buffer.alloc(6);

/** One more host that gets copies of broadcast and multicast; said twice it is there once. */
export function putFlood(vxlan: number, vtep: Ip): Request {
  const head = ndmsg(AF_BRIDGE, vxlan, NUD.noarp | NUD.permanent, NTF.self | NTF.extLearned);
  const parts = [head, attr(NDA.lladdr, ZERO_MAC), attr(NDA.dst, ipToBytes(vtep))];
  return { op: `RTM_NEWNEIGH flood ${vtep}`, type: RTM_NEWNEIGH, flags: CREATE | APPEND, parts };
}

export function deleteFlood(vxlan: number, vtep: Ip): Request {
  const head = ndmsg(AF_BRIDGE, vxlan, 0, NTF.self);
  const parts = [head, attr(NDA.lladdr, ZERO_MAC), attr(NDA.dst, ipToBytes(vtep))];
  return { op: `RTM_DELNEIGH flood ${vtep}`, type: RTM_DELNEIGH, flags: 0, parts };
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

export function deleteFdb(vxlan: number, mac: Mac, half: "self" | "master"): Request {
  const parts = [ndmsg(AF_BRIDGE, vxlan, 0, NTF[half]), attr(NDA.lladdr, macToBytes(mac))];
  return { op: `RTM_DELNEIGH fdb ${half} ${mac}`, type: RTM_DELNEIGH, flags: 0, parts };
}

/** The container's MAC on its locked port: any other source MAC is dropped. */
export function putStaticFdb(port: number, mac: Mac): Request {
  const parts = [ndmsg(AF_BRIDGE, port, NUD.noarp, NTF.master), attr(NDA.lladdr, macToBytes(mac))];
  return { op: `RTM_NEWNEIGH static ${mac}`, type: RTM_NEWNEIGH, flags: CREATE | REPLACE, parts };
}

const ipFamily = (ip: Ip): number => (familyOf(ip) === 4 ? AF_INET : AF_INET6);

export function putNeighbour(bridge: number, ip: Ip, mac: Mac): Request {
  const head = ndmsg(ipFamily(ip), bridge, NUD.permanent, NTF.extLearned);
  const parts = [head, attr(NDA.dst, ipToBytes(ip)), attr(NDA.lladdr, macToBytes(mac))];
  return { op: `RTM_NEWNEIGH ${ip} ${mac}`, type: RTM_NEWNEIGH, flags: CREATE | REPLACE, parts };
}

export function deleteNeighbour(bridge: number, ip: Ip): Request {
  const parts = [ndmsg(ipFamily(ip), bridge, 0, 0), attr(NDA.dst, ipToBytes(ip))];
  return { op: `RTM_DELNEIGH ${ip}`, type: RTM_DELNEIGH, flags: 0, parts };
}

/** Multicast groups of linux/rtnetlink.h, and what in them is news to us. */
export const RTNLGRP = { link: 1, neigh: 3 } as const;

export function isLoss({ type, payload }: NetlinkMessage): boolean {
  switch (type) {
    case RTM_DELLINK:
    case RTM_DELNEIGH:
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
export const dumpAddresses: Request = {
  op: "RTM_GETADDR",
  type: RTM_GETADDR,
  flags: 0,
  parts: [Buffer.alloc(8)],
};

export function dumpNeighbours(what: "bridge" | 4 | 6): Request {
  const family = what === "bridge" ? AF_BRIDGE : what === 4 ? AF_INET : AF_INET6;
  return { op: "RTM_GETNEIGH", type: RTM_GETNEIGH, flags: 0, parts: [ndmsg(family, 0, 0, 0)] };
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
  /** Of a bridge port: it gets what goes to everybody. */
  readonly multicastFlood: boolean;
  readonly vxlan: { vni: number; udpPort: number; localVtep: Ip } | undefined;
}

export function decodeLink({ payload }: NetlinkMessage): Link {
  const attributes = decodeAttributes(payload.subarray(16));
  const info = decodeAttributes(attributes.get(IFLA.linkinfo) ?? Buffer.alloc(0));
  const kind = decodeText(info.get(LINKINFO.kind));
  const isVxlan = kind === "vxlan";
  return {
    index: payload.readInt32LE(4),
    name: decodeText(attributes.get(IFLA.ifname)),
    kind,
    alias: decodeText(attributes.get(IFLA.alias)),
    mtuBytes: attributes.get(IFLA.mtu)?.readUInt32LE() ?? 0,
    up: (payload.readUInt32LE(8) & IFF_UP) !== 0,
    master: attributes.get(IFLA.master)?.readUInt32LE() ?? 0,
    multicastFlood: isVxlan && portFlag(info, BRPORT.mcastFlood),
    vxlan: isVxlan ? decodeVxlan(info) : undefined,
  };
}

function portFlag(info: Attributes, flag: number): boolean {
  const port = decodeAttributes(info.get(LINKINFO.slaveData) ?? Buffer.alloc(0));
  return port.get(flag)?.readUInt8() === 1;
}

function decodeVxlan(info: Attributes): Link["vxlan"] {
  const data = decodeAttributes(info.get(LINKINFO.data) ?? Buffer.alloc(0));
  const local = data.get(VXLAN.local) ?? data.get(VXLAN.local6);
  const vni = data.get(VXLAN.id)?.readUInt32LE();
  const udpPort = data.get(VXLAN.port)?.readUInt16BE();
  if (local === undefined || vni === undefined || udpPort === undefined) return undefined;
  return { vni, udpPort, localVtep: bytesToIp(local) };
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

export interface Neighbour {
  readonly index: number;
  /** Pushed by a control plane: ours, in a namespace of ours. */
  readonly extLearned: boolean;
  /** Of the bridge's table, not of VXLAN's. */
  readonly master: boolean;
  readonly mac: Mac | undefined;
  /** The all-zero MAC: VXLAN's entry for what goes to everybody. */
  readonly flood: boolean;
  readonly destination: Ip | undefined;
}

export function decodeNeighbour({ payload }: NetlinkMessage): Neighbour {
  const attributes = decodeAttributes(payload.subarray(12));
  const mac = attributes.get(NDA.lladdr);
  const destination = attributes.get(NDA.dst);
  return {
    index: payload.readInt32LE(4),
    extLearned: (payload.readUInt8(10) & NTF.extLearned) !== 0,
    master: attributes.has(NDA.master),
    mac:
      mac?.length === 6 && (mac[0] ?? 1) % 2 === 0 && mac.some((byte) => byte !== 0)
        ? bytesToMac(mac)
        : undefined,
    flood: mac?.equals(ZERO_MAC) === true,
    destination: destination === undefined ? undefined : bytesToIp(destination),
  };
}
