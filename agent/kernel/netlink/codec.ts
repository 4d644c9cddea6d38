import { assert } from "../../../shared/errors.ts";
import type { Family } from "../../../shared/ip.ts";

/** Netlink's framing (linux/netlink.h): little endian as the machine, all on 4-byte bounds. */

export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly seq: number;
  readonly payload: Buffer;
}

/** NLM_F_CREATE and NLM_F_REPLACE, of a request that makes something. */
export const CREATE = 0x400;
export const REPLACE = 0x100;

/** AF_INET, AF_INET6. */
export function addressFamily(family: Family): number {
  return family === 4 ? 2 : 10;
}

export type Attributes = ReadonlyMap<number, Buffer>;

const align = (length: number): number => (length + 3) & ~3;

/** `struct nlmsghdr` and the payload. */
export function encodeFrame(type: number, flags: number, seq: number, ...parts: Buffer[]): Buffer {
  const payload = Buffer.concat(parts);
  const frame = Buffer.alloc(16 + align(payload.length));
  frame.writeUInt32LE(16 + payload.length, 0);
  frame.writeUInt16LE(type, 4);
  frame.writeUInt16LE(flags, 6);
  frame.writeUInt32LE(seq, 8);
  payload.copy(frame, 16);
  return frame;
}

/** All messages of one datagram. */
export function decodeFrames(datagram: Buffer): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  for (let at = 0; at + 16 <= datagram.length;) {
    const length = datagram.readUInt32LE(at);
    assert(length >= 16 && at + length <= datagram.length, "a netlink message within its datagram");
    messages.push({
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      seq: datagram.readUInt32LE(at + 8),
      payload: datagram.subarray(at + 16, at + length),
    });
    at += align(length);
  }
  return messages;
}

/** `struct nlattr`; a value of parts is a nest. */
export function attr(type: number, ...value: Uint8Array[]): Buffer {
  const data = Buffer.concat(value);
  const out = Buffer.alloc(align(4 + data.length));
  out.writeUInt16LE(4 + data.length, 0);
  out.writeUInt16LE(type, 2);
  data.copy(out, 4);
  return out;
}

const NLA_F_NESTED = 0x8000;
const TYPE_MASK = 0x3fff;

/** A nest that says so: families younger than Linux 5.2 take no other. */
export function nest(type: number, ...parts: Uint8Array[]): Buffer {
  return attr(type | NLA_F_NESTED, ...parts);
}

export function u8(value: number): Buffer {
  return Buffer.from([value]);
}

export function u16be(value: number): Buffer {
  const out = Buffer.alloc(2);
  out.writeUInt16BE(value);
  return out;
}

export function u16(value: number): Buffer {
  const out = Buffer.alloc(2);
  out.writeUInt16LE(value);
  return out;
}

export function u32be(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}

export function u32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(value);
  return out;
}

export function text(value: string): Buffer {
  return Buffer.from(`${value}\0`);
}

export function decodeAttributes(payload: Buffer): Attributes {
  return new Map(attributesOf(payload));
}

/** Values of a list: its attributes all have the same type, or count. */
export function decodeList(payload: Buffer): Buffer[] {
  return attributesOf(payload).map(([, value]) => value);
}

function attributesOf(payload: Buffer): [number, Buffer][] {
  const found: [number, Buffer][] = [];
  for (let at = 0; at + 4 <= payload.length;) {
    const length = payload.readUInt16LE(at);
    assert(length >= 4 && at + length <= payload.length, "an attribute within its message");
    // The upper bits say "nested" and "network order"; the type is below them.
    found.push([payload.readUInt16LE(at + 2) & TYPE_MASK, payload.subarray(at + 4, at + length)]);
    at += align(length);
  }
  return found;
}

export function decodeText(value: Buffer | undefined): string {
  return value === undefined ? "" : value.toString().replace(/\0$/, "");
}
