import { Address4, Address6 } from "ip-address";
import { z } from "zod";
import { OverlayError } from "./errors.ts";

export type Family = 4 | 6;

/** An IP address in its one canonical spelling (RFC 5952 for IPv6). */
export const Ip = z
  .string()
  .transform((text, context) => {
    const canonical = canonicalIp(text);
    if (canonical === undefined) {
      context.addIssue({ code: "custom", message: `not an IP address: ${text}` });
      return z.NEVER;
    }
    return canonical;
  })
  .brand<"Ip">();
export type Ip = z.infer<typeof Ip>;

/** A prefix with host bits zero, e.g. `10.1.0.0/20`. */
export const Cidr = z
  .string()
  .transform((text, context) => {
    const canonical = canonicalCidr(text);
    if (canonical === undefined) {
      context.addIssue({ code: "custom", message: `not a subnet in CIDR form: ${text}` });
      return z.NEVER;
    }
    return canonical;
  })
  .brand<"Cidr">();
export type Cidr = z.infer<typeof Cidr>;

export function familyOf(address: Ip | Cidr): Family {
  return address.includes(":") ? 6 : 4;
}

export const ADDRESS_BITS = { 4: 32, 6: 128 } as const;

/** The address as an unsigned number of 32 or 128 bits. */
export function ipToNumber(ip: Ip): bigint {
  if (familyOf(ip) === 6) return new Address6(ip).bigInt();
  // Thousands of addresses a pass: canonical already, they need no parser.
  return BigInt(ip.split(".").reduce((value, part) => value * 256 + Number(part), 0));
}

/** @throws INVALID when the number does not fit the family. */
export function numberToIp(value: bigint, family: Family): Ip {
  if (value < 0n || value >= 1n << BigInt(ADDRESS_BITS[family]))
    throw new OverlayError({ code: "INVALID", message: `no IPv${family} address ${value}` });
  if (family === 6) return Address6.fromBigInt(value).correctForm() as Ip;
  const bits = Number(value);
  return [bits >>> 24, (bits >>> 16) & 255, (bits >>> 8) & 255, bits & 255].join(".") as Ip;
}

/** Network-order bytes: 4 or 16. */
export function ipToBytes(ip: Ip): Uint8Array {
  const family = familyOf(ip);
  // No need of big numbers for four that stand there.
  if (family === 4) return Uint8Array.from(ip.split("."), Number);
  let value = ipToNumber(ip);
  const bytes = new Uint8Array(ADDRESS_BITS[family] / 8);
  for (let i = bytes.length - 1; i >= 0; i--) {
    bytes[i] = Number(value & 0xffn);
    value >>= 8n;
  }
  return bytes;
}

/** @throws INVALID unless 4 or 16 bytes. */
export function bytesToIp(bytes: Uint8Array): Ip {
  if (bytes.length !== 4 && bytes.length !== 16)
    throw new OverlayError({ code: "INVALID", message: `an address of ${bytes.length} bytes` });
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return numberToIp(value, bytes.length === 4 ? 4 : 6);
}

export function prefixLength(cidr: Cidr): number {
  return Number(cidr.slice(cidr.indexOf("/") + 1));
}

/** First and last address of the prefix, as numbers. */
export function rangeOf(cidr: Cidr): { first: bigint; last: bigint; family: Family } {
  const family = familyOf(cidr);
  const first = ipToNumber(cidr.slice(0, cidr.indexOf("/")) as Ip);
  const size = 1n << BigInt(ADDRESS_BITS[family] - prefixLength(cidr));
  return { first, last: first + size - 1n, family };
}

export function cidrContains(cidr: Cidr, ip: Ip): boolean {
  const { first, last, family } = rangeOf(cidr);
  if (family !== familyOf(ip)) return false;
  const value = ipToNumber(ip);
  return value >= first && value <= last;
}

export function cidrOverlaps(a: Cidr, b: Cidr): boolean {
  const x = rangeOf(a);
  const y = rangeOf(b);
  return x.family === y.family && x.first <= y.last && y.first <= x.last;
}

export function cidrContainsCidr(outer: Cidr, inner: Cidr): boolean {
  const o = rangeOf(outer);
  const i = rangeOf(inner);
  return o.family === i.family && o.first <= i.first && i.last <= o.last;
}

/** `first` must be aligned to the prefix length. */
export function toCidr(first: bigint, length: number, family: Family): Cidr {
  return Cidr.parse(`${numberToIp(first, family)}/${length}`);
}

/** The `part`-th of the `2^bits` equal parts of a prefix. */
export function partOf(cidr: Cidr, bits: number, part: number): Cidr {
  const { first, family } = rangeOf(cidr);
  const length = prefixLength(cidr) + bits;
  return toCidr(first + (BigInt(part) << BigInt(ADDRESS_BITS[family] - length)), length, family);
}

/** The prefix of one address: /32 or /128. */
export function hostCidr(ip: Ip): Cidr {
  return `${ip}/${ADDRESS_BITS[familyOf(ip)]}` as Cidr;
}

/** `10.1.2.3/16` as Docker writes an interface address: the address and its subnet. */
export function parseInterfaceAddress(text: string): { ip: Ip; subnet: Cidr } {
  const slash = text.indexOf("/");
  const ip = slash < 0 ? undefined : canonicalIp(text.slice(0, slash));
  if (
    ip === undefined ||
    !/^\d{1,3}$/.test(text.slice(slash + 1)) ||
    !validLength(ip, text.slice(slash + 1))
  )
    throw new OverlayError({ code: "INVALID", message: `not an address with prefix: ${text}` });
  const length = Number(text.slice(slash + 1));
  const family = familyOf(ip as Ip);
  const mask = ((1n << BigInt(length)) - 1n) << BigInt(ADDRESS_BITS[family] - length);
  return { ip: ip as Ip, subnet: toCidr(ipToNumber(ip as Ip) & mask, length, family) };
}

function validLength(ip: string, length: string): boolean {
  return Number(length) <= (ip.includes(":") ? 128 : 32);
}

/** As it is always written: what matches is what a parser would make of it. */
const CANONICAL_IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/;

function canonicalIp(text: string): string | undefined {
  if (CANONICAL_IPV4.test(text)) return text;
  if (/^\d{1,3}(\.\d{1,3}){3}$/.test(text) && Address4.isValid(text))
    return new Address4(text).correctForm();
  if (text.includes(":") && !/[/%]/.test(text) && Address6.isValid(text))
    return new Address6(text).correctForm();
  return undefined;
}

function canonicalCidr(text: string): string | undefined {
  const match = /^([^/]+)\/(\d{1,3})$/.exec(text);
  const ip = match?.[1] === undefined ? undefined : canonicalIp(match[1]);
  if (match?.[2] === undefined || ip === undefined || !validLength(ip, match[2])) return undefined;
  const length = Number(match[2]);
  const hostBits = BigInt(ADDRESS_BITS[ip.includes(":") ? 6 : 4] - length);
  const value = ipToNumber(ip as Ip);
  if ((value & ((1n << hostBits) - 1n)) !== 0n) return undefined;
  return `${ip}/${length}`;
}
