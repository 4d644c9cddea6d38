import { bytesToIp, familyOf, type Ip, ipToBytes } from "../../../shared/ip.ts";
import { type Mac, macToBytes } from "../../../shared/mac.ts";
import {
  addressFamily,
  attr,
  CREATE,
  decodeAttributes,
  type NetlinkMessage,
  REPLACE,
} from "./codec.ts";
import { decodeMac } from "./link-address.ts";
import type { Request } from "./socket.ts";

/** rtnetlink messages on FDB entries and neighbours (linux/neighbour.h), as requests and back. */

const RTM_NEWNEIGH = 28;
export const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;
const APPEND = 0x800;
const AF_BRIDGE = 7;
const NDA = { dst: 1, lladdr: 2, master: 9 } as const;
const NTF = { self: 2, master: 4, extLearned: 0x10 } as const;
const NUD = { reachable: 2, noarp: 0x40, permanent: 0x80 } as const;

function ndmsg(family: number, index: number, state: number, flags: number): Buffer {
  const out = Buffer.alloc(12);
  out.writeUInt8(family, 0);
  out.writeInt32LE(index, 4);
  out.writeUInt16LE(state, 8);
  out.writeUInt8(flags, 10);
  return out;
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

export function deleteFdb(vxlan: number, mac: Mac, half: "self" | "master"): Request {
  const parts = [ndmsg(AF_BRIDGE, vxlan, 0, NTF[half]), attr(NDA.lladdr, macToBytes(mac))];
  return { op: `RTM_DELNEIGH fdb ${half} ${mac}`, type: RTM_DELNEIGH, flags: 0, parts };
}

/** The container's MAC on its locked port: any other source MAC is dropped. */
export function putStaticFdb(port: number, mac: Mac): Request {
  const parts = [ndmsg(AF_BRIDGE, port, NUD.noarp, NTF.master), attr(NDA.lladdr, macToBytes(mac))];
  return { op: `RTM_NEWNEIGH static ${mac}`, type: RTM_NEWNEIGH, flags: CREATE | REPLACE, parts };
}

export function putNeighbour(bridge: number, ip: Ip, mac: Mac): Request {
  const head = ndmsg(addressFamily(familyOf(ip)), bridge, NUD.permanent, NTF.extLearned);
  const parts = [head, attr(NDA.dst, ipToBytes(ip)), attr(NDA.lladdr, macToBytes(mac))];
  return { op: `RTM_NEWNEIGH ${ip} ${mac}`, type: RTM_NEWNEIGH, flags: CREATE | REPLACE, parts };
}

export function deleteNeighbour(bridge: number, ip: Ip): Request {
  const parts = [ndmsg(addressFamily(familyOf(ip)), bridge, 0, 0), attr(NDA.dst, ipToBytes(ip))];
  return { op: `RTM_DELNEIGH ${ip}`, type: RTM_DELNEIGH, flags: 0, parts };
}

export function dumpNeighbours(what: "bridge" | 4 | 6): Request {
  const family = what === "bridge" ? AF_BRIDGE : addressFamily(what);
  return { op: "RTM_GETNEIGH", type: RTM_GETNEIGH, flags: 0, parts: [ndmsg(family, 0, 0, 0)] };
}

export interface Neighbour {
  readonly index: number;
  /** Pushed by a control plane: ours, in a namespace of ours. */
  readonly extLearned: boolean;
  /** Neither learned nor aged: as `putStaticFdb` writes it. */
  readonly isStatic: boolean;
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
    isStatic: (payload.readUInt16LE(8) & NUD.noarp) !== 0,
    master: attributes.has(NDA.master),
    mac: decodeMac(mac),
    flood: mac?.equals(ZERO_MAC) === true,
    destination: destination === undefined ? undefined : bytesToIp(destination),
  };
}
