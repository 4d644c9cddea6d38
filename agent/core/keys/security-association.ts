import type { Ip } from "../../../shared/ip.ts";

/** ESP's SA of one direction of one pair (RFC 4301, 4.4.2); the destination picks the SPI. */
export interface SaName {
  readonly source: Ip;
  readonly destination: Ip;
  readonly spi: number;
}

/** One that the kernel has, and what went through it. */
export interface HeldSa extends SaName {
  readonly packets: number;
  readonly bytes: number;
}

export function saText({ source, destination, spi }: SaName): string {
  return `${source} > ${destination} spi ${spi.toString(16).padStart(8, "0")}`;
}
