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
 * The MAC rule: `02:42:<IPv4>`. Readers recompute it, so a member cannot draw traffic by
 * claiming a victim's MAC. An endpoint with IPv6 only takes 02:43 and a hash of its address.
 */
export function ruleMac(ip: Ip): Mac {
  const bytes = ipToBytes(ip);
  if (familyOf(ip) === 4) return bytesToMac(Uint8Array.of(0x02, 0x42, ...bytes));
  // FNV-1a over the 16 bytes: the space is only for avoiding chance clashes, not for security.
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  const tail = [hash >>> 24, (hash >>> 16) & 0xff, (hash >>> 8) & 0xff, hash & 0xff];
  return bytesToMac(Uint8Array.of(0x02, 0x43, ...tail));
}

/** MACs that the rule hands out. A user's `--mac-address` must lie outside. */
export function inRuleSpace(mac: Mac): boolean {
  return mac.startsWith("02:42:") || mac.startsWith("02:43:");
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
