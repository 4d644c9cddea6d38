import { familyOf, type Ip, ipToBytes } from "../../shared/ip.ts";
import { type Mac, macToBytes } from "../../shared/mac.ts";

export interface FrameEnd {
  readonly mac: Mac;
  readonly ip: Ip;
}

/**
 * What a host would send for a container of its own, as VXLAN (RFC 7348): `marker` in a datagram from port 9 to port
 * 9, whose checksums are left away: nobody answers it.
 * @param forwarded with the header's, which a router looks at
 */
export function vxlanDatagram(
  vni: number,
  from: FrameEnd,
  to: FrameEnd,
  marker: Buffer,
  forwarded = false,
): Buffer {
  const vxlan = Buffer.alloc(8);
  vxlan.writeUInt8(8, 0);
  vxlan.writeUIntBE(vni, 4, 3);
  const udp = Buffer.concat([Buffer.from([0, 9, 0, 9, 0, 8 + marker.length, 0, 0]), marker]);
  const [type, header] =
    familyOf(from.ip) === 4
      ? ["0800", ipv4Header(from.ip, to.ip, udp.length, forwarded)]
      : ["86dd", ipv6Header(from.ip, to.ip, udp.length)];
  const macs = [macToBytes(to.mac), macToBytes(from.mac)];
  return Buffer.concat([vxlan, ...macs, Buffer.from(type, "hex"), header, udp]);
}

function ipv4Header(from: Ip, to: Ip, length: number, forwarded: boolean): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt8(0x45, 0);
  header.writeUInt16BE(header.length + length, 2);
  header.writeUInt8(64, 8);
  header.writeUInt8(17, 9);
  header.set(ipToBytes(from), 12);
  header.set(ipToBytes(to), 16);
  if (forwarded) header.writeUInt16BE(checksum(header), 10);
  return header;
}

function ipv6Header(from: Ip, to: Ip, length: number): Buffer {
  const header = Buffer.alloc(40);
  header.writeUInt8(0x60, 0);
  header.writeUInt16BE(length, 4);
  header.writeUInt8(17, 6);
  header.writeUInt8(64, 7);
  header.set(ipToBytes(from), 8);
  header.set(ipToBytes(to), 24);
  return header;
}

/** RFC 1071. */
function checksum(header: Buffer): number {
  let sum = 0;
  for (let at = 0; at < header.length; at += 2) sum += header.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
