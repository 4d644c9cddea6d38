import type { Entry } from "../../core/balancing/left-behind.ts";
import { attr, decodeAttributes, type NetlinkMessage, nest, u32be } from "./codec.ts";
import type { Request } from "./socket.ts";

/** ctnetlink (linux/netfilter/nfnetlink_conntrack.h), as requests and back: which connections a namespace has. */

/** NFNL_SUBSYS_CTNETLINK of linux/netfilter/nfnetlink.h, the upper byte of a type; IPCTNL_MSG_CT_*. */
const SUBSYSTEM = 1 << 8;
const MSG = { get: SUBSYSTEM | 1, delete: SUBSYSTEM | 2 } as const;

/** enum ctattr_type */
const CTA = { original: 1, reply: 2, status: 3, id: 12, zone: 18, statusMask: 26 } as const;
/** enum ctattr_tuple, ctattr_ip, ctattr_l4proto */
const CTA_TUPLE = { ip: 1, proto: 2 } as const;
const CTA_IP = { v4Source: 1, v4Destination: 2, v6Source: 3, v6Destination: 4 } as const;
const CTA_PROTO = { number: 1, sourcePort: 2, destinationPort: 3 } as const;

/** enum ip_conntrack_status of linux/netfilter/nf_conntrack_common.h */
const SEEN_REPLY = 1 << 1;
const DST_NAT = 1 << 5;

/** `struct nfgenmsg`: family, version, resource. 0: any family. */
function generic(family: number): Buffer {
  return Buffer.from([family, 0, 0, 0]);
}

/**
 * Those whose destination was translated, or of them only those without an answer. A kernel before 5.15 does not know the
 * filter and lists all: what is listed is looked at.
 */
export function dumpTranslated(only: "all" | "unanswered"): Request {
  const mask = only === "all" ? DST_NAT : DST_NAT | SEEN_REPLY;
  return {
    op: "IPCTNL_MSG_CT_GET",
    type: MSG.get,
    flags: 0,
    parts: [generic(0), attr(CTA.status, u32be(DST_NAT)), attr(CTA.statusMask, u32be(mask))],
  };
}

/** An entry, and how it is deleted: this one, not another that has the same ends by then. */
export interface TranslatedEntry extends Entry {
  /** AF_INET or AF_INET6. */
  readonly family: number;
  /** As the client sent it: its own socket's ends, unless it forwards for another. */
  readonly from: ConnectionEnd;
  readonly to: ConnectionEnd;
  readonly original: Buffer;
  readonly id: Buffer;
  readonly zone: Buffer | undefined;
}

export interface ConnectionEnd {
  readonly address: Buffer;
  readonly port: number;
}

/** Undefined: its destination was not translated, or it lacks what names it. */
export function decodeEntry({ payload }: NetlinkMessage): TranslatedEntry | undefined {
  const attributes = decodeAttributes(payload.subarray(4));
  const [original, reply, id] = [CTA.original, CTA.reply, CTA.id].map((type) =>
    attributes.get(type),
  );
  const status = attributes.get(CTA.status)?.readUInt32BE(0) ?? 0;
  if (original === undefined || reply === undefined || id === undefined) return undefined;
  if ((status & DST_NAT) === 0) return undefined;
  const [there, back] = [decodeAttributes(original), decodeAttributes(reply)];
  const protocol = decodeAttributes(there.get(CTA_TUPLE.proto) ?? Buffer.alloc(0));
  const ends = decodeAttributes(there.get(CTA_TUPLE.ip) ?? Buffer.alloc(0));
  const bytes = (v4: number, v6: number): Buffer => ends.get(v4) ?? ends.get(v6) ?? Buffer.alloc(0);
  const port = (type: number): number => protocol.get(type)?.readUInt16BE(0) ?? 0;
  return {
    family: payload.readUInt8(0),
    protocol: protocol.get(CTA_PROTO.number)?.readUInt8(0) ?? 0,
    from: {
      address: bytes(CTA_IP.v4Source, CTA_IP.v6Source),
      port: port(CTA_PROTO.sourcePort),
    },
    to: {
      address: bytes(CTA_IP.v4Destination, CTA_IP.v6Destination),
      port: port(CTA_PROTO.destinationPort),
    },
    meant: bytes(CTA_IP.v4Destination, CTA_IP.v6Destination).toString("hex"),
    answers: sourceOf(back.get(CTA_TUPLE.ip) ?? Buffer.alloc(0)),
    replied: (status & SEEN_REPLY) !== 0,
    original,
    id,
    zone: attributes.get(CTA.zone),
  };
}

function sourceOf(ends: Buffer): string {
  const found = decodeAttributes(ends);
  return (found.get(CTA_IP.v4Source) ?? found.get(CTA_IP.v6Source) ?? Buffer.alloc(0)).toString(
    "hex",
  );
}

/** ENOENT: it ended meanwhile. */
export function deleteEntry({ family, original, id, zone }: TranslatedEntry): Request {
  return {
    op: "IPCTNL_MSG_CT_DELETE",
    type: MSG.delete,
    flags: 0,
    parts: [
      generic(family),
      nest(CTA.original, original),
      attr(CTA.id, id),
      ...(zone === undefined ? [] : [attr(CTA.zone, zone)]),
    ],
  };
}
