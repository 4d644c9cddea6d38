import type { Family } from "./ip.ts";
import { VXLAN_OVERHEAD_BYTES } from "./vxlan.ts";

/** SPI and sequence number, the explicit IV of AES-GCM, ICV of 128 bits (RFC 4303, 2; RFC 4106, 3). */
const ESP_BYTES = 8 + 8 + 16;
/** Padding's length and the next header's number; with them a packet ends at a multiple of four. */
const TRAILER_BYTES = 2;
const ALIGNMENT = 4;
const IP_HEADER_BYTES = { 4: 20, 6: 40 } as const;

/** The largest MTU of a network whose VXLAN goes under ESP in transport mode: 1416 of 1500 over IPv4. */
export function largestEspMtuBytes(underlayFamily: Family, underlayMtuBytes: number): number {
  const room = underlayMtuBytes - IP_HEADER_BYTES[underlayFamily] - ESP_BYTES;
  const payload = room - (room % ALIGNMENT) - TRAILER_BYTES;
  return payload - (VXLAN_OVERHEAD_BYTES[underlayFamily] - IP_HEADER_BYTES[underlayFamily]);
}
