import { type Cidr, type Family, type Ip, numberToIp, rangeOf } from "./ip.ts";
import { VXLAN_OVERHEAD_BYTES } from "./vxlan.ts";

/** What WireGuard takes of the underlay's MTU, by its IP version: outer IP, UDP, 16 of header, 16 of tag. */
export const WIREGUARD_OVERHEAD_BYTES = { 4: 60, 6: 80 } as const;

/** The largest MTU of a WireGuard network: VXLAN inside the tunnel is always over IPv4. */
export function largestWireguardMtuBytes(family: Family, underlayMtuBytes: number): number {
  return underlayMtuBytes - WIREGUARD_OVERHEAD_BYTES[family] - VXLAN_OVERHEAD_BYTES[4];
}

/** A node's address inside WireGuard: never used again, as its index is not. */
export function insideAddress(wireguardSubnet: Cidr, index: number): Ip {
  const { first, family } = rangeOf(wireguardSubnet);
  return numberToIp(first + BigInt(index), family);
}
