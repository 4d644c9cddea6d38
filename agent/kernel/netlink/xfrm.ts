import type { HeldSa, SaName } from "../../core/keys/security-association.ts";
import { saText } from "../../core/keys/security-association.ts";
import type { PairKey } from "../../core/keys/pair-key.ts";
import { bytesToIp, familyOf, type Ip, ipToBytes } from "../../../shared/ip.ts";
import { attr, decodeAttributes, type NetlinkMessage, u32 } from "./codec.ts";
import type { Request } from "./socket.ts";

/** NETLINK_XFRM messages we use (linux/xfrm.h), as requests and back. Keys go in, none comes out. */

const XFRM_MSG = {
  newSa: 0x10,
  delSa: 0x11,
  getSa: 0x12,
  newPolicy: 0x13,
  delPolicy: 0x14,
  getPolicy: 0x15,
  expire: 0x18,
  updPolicy: 0x19,
  flushSa: 0x1c,
  flushPolicy: 0x1d,
} as const;
const XFRMA = { tmpl: 5, algAead: 18, mark: 21, replayEsn: 23, ifId: 31 } as const;

/** Multicast groups of linux/xfrm.h. */
export const XFRMNLGRP = { expire: 2, sa: 3, policy: 4 } as const;

/**
 * On all that is ours: policies name it instead of SPIs, and a restarted agent knows its own by it.
 * Far from what IKE daemons count up from 1.
 */
export const REQID = 0x6f766c79;

const AF_INET = 2;
const AF_INET6 = 10;
const ESP = 50;
const UDP = 17;
const MODE_TRANSPORT = 0;
const STATE_ESN = 128;
/** The kernel's maximum, in packets (XFRMA_REPLAY_ESN_MAX of net/xfrm/xfrm_user.c). */
const REPLAY_WINDOW = 4096;
const ICV_BITS = 128;

const SELECTOR_BYTES = 56;
const SA_INFO_BYTES = 224;
const SA_ID_BYTES = 24;
const POLICY_INFO_BYTES = 168;
const POLICY_ID_BYTES = 64;
const TEMPLATE_BYTES = 64;

const family = (ip: Ip): number => (familyOf(ip) === 4 ? AF_INET : AF_INET6);
const bits = (ip: Ip): number => (familyOf(ip) === 4 ? 32 : 128);

interface Ends {
  readonly family: 4 | 6;
  /** Undefined: any. */
  readonly source: Ip | undefined;
  readonly destination: Ip | undefined;
}

/** `struct xfrm_selector`: UDP to one port, between these ends. */
function selector(ends: Ends, udpPort: number): Buffer {
  const out = Buffer.alloc(SELECTOR_BYTES);
  if (ends.destination !== undefined) out.set(ipToBytes(ends.destination), 0);
  if (ends.source !== undefined) out.set(ipToBytes(ends.source), 16);
  out.writeUInt16BE(udpPort, 32);
  out.writeUInt16BE(0xffff, 34);
  out.writeUInt16LE(ends.family === 4 ? AF_INET : AF_INET6, 40);
  out.writeUInt8(ends.destination === undefined ? 0 : bits(ends.destination), 42);
  out.writeUInt8(ends.source === undefined ? 0 : bits(ends.source), 43);
  out.writeUInt8(UDP, 44);
  return out;
}

/** `struct xfrm_lifetime_cfg`: nothing ends by itself, for keys are replaced by the agent. */
function noLimits(): Buffer {
  const out = Buffer.alloc(64);
  out.fill(0xff, 0, 32);
  return out;
}

/**
 * Transport mode, rfc4106(gcm(aes)) with an ICV of 128 bits, 64-bit sequence numbers. The selector binds
 * the outer addresses, which ESP itself does not authenticate: no host of the cluster can send under
 * another's address with its own key. One that is there is an error, never replaced.
 */
export function newSa(sa: SaName, udpPort: number, key: PairKey): Request {
  const info = Buffer.alloc(SA_INFO_BYTES);
  info.set(selector({ family: familyOf(sa.source), ...sa }, udpPort), 0);
  info.set(ipToBytes(sa.destination), 56);
  info.writeUInt32BE(sa.spi, 72);
  info.writeUInt8(ESP, 76);
  info.set(ipToBytes(sa.source), 80);
  info.set(noLimits(), 96);
  info.writeUInt32LE(REQID, 208);
  info.writeUInt16LE(family(sa.source), 212);
  info.writeUInt8(MODE_TRANSPORT, 214);
  info.writeUInt8(STATE_ESN, 216);
  const secret = key.reveal();
  const name = Buffer.alloc(64);
  name.write("rfc4106(gcm(aes))");
  const esn = Buffer.alloc(24 + REPLAY_WINDOW / 8);
  esn.writeUInt32LE(REPLAY_WINDOW / 32, 0);
  esn.writeUInt32LE(REPLAY_WINDOW, 20);
  return {
    op: `XFRM_MSG_NEWSA ${saText(sa)}`,
    type: XFRM_MSG.newSa,
    flags: 0,
    parts: [
      info,
      attr(XFRMA.algAead, name, u32(secret.length * 8), u32(ICV_BITS), secret),
      attr(XFRMA.replayEsn, esn),
    ],
  };
}

export function deleteSa(sa: SaName): Request {
  const id = Buffer.alloc(SA_ID_BYTES);
  id.set(ipToBytes(sa.destination), 0);
  id.writeUInt32BE(sa.spi, 16);
  id.writeUInt16LE(family(sa.destination), 20);
  id.writeUInt8(ESP, 22);
  return { op: `XFRM_MSG_DELSA ${saText(sa)}`, type: XFRM_MSG.delSa, flags: 0, parts: [id] };
}

export const dumpSas: Request = {
  op: "XFRM_MSG_GETSA",
  type: XFRM_MSG.getSa,
  flags: 0,
  parts: [],
};

/** Undefined: not ours. What the kernel keeps while it asks for a key has our reqid too, and SPI 0. */
export function decodeSa({ payload }: NetlinkMessage): HeldSa | undefined {
  const spi = payload.readUInt32BE(72);
  if (payload.readUInt32LE(208) !== REQID || payload.readUInt8(76) !== ESP || spi === 0)
    return undefined;
  const length = payload.readUInt16LE(212) === AF_INET ? 4 : 16;
  return {
    source: bytesToIp(payload.subarray(80, 80 + length)),
    destination: bytesToIp(payload.subarray(56, 56 + length)),
    spi,
    bytes: Number(payload.readBigUInt64LE(160)),
    packets: Number(payload.readBigUInt64LE(168)),
  };
}

/** `require`: ESP with our reqid, whatever the SPI. `block`: nothing at all. */
export interface Policy extends Ends {
  readonly direction: "in" | "out";
  readonly action: "require" | "block";
  /** The lower number is asked first. */
  readonly priority: number;
}

export function policyText({ direction, source, destination, ...policy }: Policy): string {
  const ends = `${source ?? "any"} > ${destination ?? "any"}`;
  return `${policy.action} ${direction} IPv${policy.family} ${ends} priority ${policy.priority}`;
}

const DIRECTIONS = ["in", "out"] as const;
const ACTION = { allow: 0, block: 1 } as const;

/** A policy of the same selector and direction is replaced, whatever its priority. */
export function putPolicy(policy: Policy, udpPort: number): Request {
  const info = Buffer.alloc(POLICY_INFO_BYTES);
  info.set(selector(policy, udpPort), 0);
  info.set(noLimits(), SELECTOR_BYTES);
  info.writeUInt32LE(policy.priority, 152);
  info.writeUInt8(DIRECTIONS.indexOf(policy.direction), 160);
  info.writeUInt8(policy.action === "block" ? ACTION.block : ACTION.allow, 161);
  return {
    op: `XFRM_MSG_UPDPOLICY ${policyText(policy)}`,
    type: XFRM_MSG.updPolicy,
    flags: 0,
    parts: [info, ...(policy.action === "block" ? [] : [attr(XFRMA.tmpl, template(policy))])],
  };
}

/** `struct xfrm_user_tmpl`; the addresses of transport mode are the packet's own. */
function template(policy: Policy): Buffer {
  const out = Buffer.alloc(TEMPLATE_BYTES);
  out.writeUInt8(ESP, 20);
  out.writeUInt16LE(policy.family === 4 ? AF_INET : AF_INET6, 24);
  out.writeUInt32LE(REQID, 44);
  out.writeUInt8(MODE_TRANSPORT, 48);
  // Any algorithm of the SA with this reqid.
  out.fill(0xff, 52, 64);
  return out;
}

export function deletePolicy(policy: Policy, udpPort: number): Request {
  const id = Buffer.alloc(POLICY_ID_BYTES);
  id.set(selector(policy, udpPort), 0);
  id.writeUInt8(DIRECTIONS.indexOf(policy.direction), 60);
  return {
    op: `XFRM_MSG_DELPOLICY ${policyText(policy)}`,
    type: XFRM_MSG.delPolicy,
    flags: 0,
    parts: [id],
  };
}

export const dumpPolicies: Request = {
  op: "XFRM_MSG_GETPOLICY",
  type: XFRM_MSG.getPolicy,
  flags: 0,
  parts: [],
};

/** Undefined: none that could be ours on this port. */
export function decodePolicy({ payload }: NetlinkMessage, udpPort: number): Policy | undefined {
  const direction = DIRECTIONS[payload.readUInt8(160)];
  const isOfPort =
    payload.readUInt16BE(32) === udpPort &&
    payload.readUInt16BE(34) === 0xffff &&
    payload.readUInt32BE(36) === 0 &&
    payload.readUInt8(44) === UDP;
  if (direction === undefined || !isOfPort) return undefined;
  const version = payload.readUInt16LE(40) === AF_INET ? 4 : 6;
  const end = (at: number, prefix: number): Ip | undefined =>
    prefix === 0 ? undefined : bytesToIp(payload.subarray(at, at + (version === 4 ? 4 : 16)));
  const blocks = payload.readUInt8(161) === ACTION.block;
  const policy: Policy = {
    direction,
    action: blocks ? "block" : "require",
    priority: payload.readUInt32LE(152),
    family: version,
    destination: end(0, payload.readUInt8(42)),
    source: end(16, payload.readUInt8(43)),
  };
  const attributes = decodeAttributes(payload.subarray(POLICY_INFO_BYTES));
  // Of some packets only.
  if (attributes.has(XFRMA.mark) || attributes.has(XFRMA.ifId)) return undefined;
  const templates = attributes.get(XFRMA.tmpl);
  const wanted = blocks ? undefined : template(policy);
  const same =
    templates === undefined || wanted === undefined
      ? templates === wanted
      : templates.equals(wanted);
  return same ? policy : undefined;
}

/** What of the kernel's news is a loss, and of which SA; undefined: nothing lost. */
export type Loss =
  | { readonly of: "policies"; readonly sure: boolean }
  | { readonly of: "associations"; readonly destination: Ip; readonly spi: number }
  | { readonly of: "associations"; readonly destination?: undefined };

export function lossOf({ type, payload }: NetlinkMessage): Loss | undefined {
  switch (type) {
    case XFRM_MSG.delSa: {
      const length = payload.readUInt16LE(20) === AF_INET ? 4 : 16;
      const destination = bytesToIp(payload.subarray(0, length));
      return { of: "associations", destination, spi: payload.readUInt32BE(16) };
    }
    case XFRM_MSG.flushSa:
    case XFRM_MSG.expire:
      return { of: "associations" };
    case XFRM_MSG.flushPolicy:
    case XFRM_MSG.delPolicy:
      return { of: "policies", sure: true };
    // Another policy, or ours written by ourselves.
    case XFRM_MSG.newPolicy:
    case XFRM_MSG.updPolicy:
      return { of: "policies", sure: false };
    default:
      return undefined;
  }
}
