import { type Ip, ipToBytes } from "../../shared/ip.ts";
import { type Mac, macToBytes } from "../../shared/mac.ts";

export interface FrameEnd {
  readonly mac: Mac;
  readonly ip: Ip;
}

/**
 * What a host would send for a container of its own, as VXLAN (RFC 7348): `marker` in a datagram over
 * IPv4, whose checksums are left away.
 */
export function vxlanDatagram(vni: number, from: FrameEnd, to: FrameEnd, marker: Buffer): Buffer {
  const vxlan = Buffer.alloc(8);
  vxlan.writeUInt8(8, 0);
  vxlan.writeUIntBE(vni, 4, 3);
  const udp = Buffer.concat([Buffer.from([0, 9, 0, 9, 0, 8 + marker.length, 0, 0]), marker]);
  const header = Buffer.alloc(20);
  header.writeUInt8(0x45, 0);
  header.writeUInt16BE(header.length + udp.length, 2);
  header.writeUInt8(64, 8);
  header.writeUInt8(17, 9);
  header.set(ipToBytes(from.ip), 12);
  header.set(ipToBytes(to.ip), 16);
  const ethernet = Buffer.concat([
    macToBytes(to.mac),
    macToBytes(from.mac),
    Buffer.from([0x08, 0x00]),
  ]);
  return Buffer.concat([vxlan, ethernet, header, udp]);
}
