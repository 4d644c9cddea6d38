import { z } from "zod";
import { bytesToIp, familyOf, ipToBytes, type Ip } from "./ip.ts";

/** Lower case, colons, unicast, not all zero. */
export const Mac = z
  .string()
  .transform((text) => text.toLowerCase())
  .pipe(z.string().regex(/^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/, "not a unicast MAC address"))
  .refine((mac) => mac !== "00:00:00:00:00:00", "the zero MAC address")
  .brand<"Mac">();
export type Mac = z.infer<typeof Mac>;

/**
 * The MAC rule: an address derives two MACs, `02:42:<IPv4>` as Docker's bridge does, and `02:44:<IPv4>` for
 * where somebody has taken the first. Readers recompute them, and no other claim counts against them, so a
 * member cannot draw traffic by claiming a victim's MAC. Of an endpoint with IPv6 only: 02:43 and 02:45 with a
 * hash of its address.
 */
export function derivedMacs(ip: Ip): readonly [Mac, Mac] {
  const v4 = familyOf(ip) === 4;
  const tail = v4 ? ipToBytes(ip) : hashOf(ipToBytes(ip));
  const [first, spare] = v4 ? [0x42, 0x44] : [0x43, 0x45];
  return [
    bytesToMac(Uint8Array.of(0x02, first, ...tail)),
    bytesToMac(Uint8Array.of(0x02, spare, ...tail)),
  ];
}

/** The first of the two. */
export function ruleMac(ip: Ip): Mac {
  return derivedMacs(ip)[0];
}

/** FNV-1a: the space is only for avoiding chance clashes, not for security. */
function hashOf(bytes: Uint8Array): number[] {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return [hash >>> 24, (hash >>> 16) & 0xff, (hash >>> 8) & 0xff, hash & 0xff];
}

/** The address that an IPv6 interface with this MAC gives itself: fe80::/64 and EUI-64 (RFC 4291, appendix A). */
export function linkLocalOf(mac: Mac): Ip {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = macToBytes(mac);
  const tail = [a ^ 0x02, b, c, 0xff, 0xfe, d, e, f];
  return bytesToIp(Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, ...tail));
}

export function macToBytes(mac: Mac): Uint8Array {
  return Uint8Array.from(mac.split(":"), (part) => Number.parseInt(part, 16));
}

export function bytesToMac(bytes: Uint8Array): Mac {
  return Mac.parse(Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":"));
}
