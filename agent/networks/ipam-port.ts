import type { Cidr, Ip } from "../../shared/ip.ts";

/**
 * What Docker's IPAM calls ask, parsed (moby libnetwork/docs/ipam.md). The rules of `docker/plugin/port.ts` hold: errors
 * are an OverlayError, no method calls the engine's API, and after `signal` a method has no effect.
 */
export interface IpamDriver {
  requestPool(request: RequestPool, signal: AbortSignal): Promise<Pool>;
  releasePool(pool: string): Promise<void>;
  /** @returns the address; `subnet` gives its prefix length. */
  requestAddress(request: RequestAddress, signal: AbortSignal): Promise<{ ip: Ip; subnet: Cidr }>;
  releaseAddress(pool: string, ip: Ip): Promise<void>;
}

export interface RequestPool {
  /** `--subnet`; undefined: choose. */
  readonly subnet: Cidr | undefined;
  /** `--ip-range`. */
  readonly range: Cidr | undefined;
  readonly ipv6: boolean;
}

export interface Pool {
  readonly id: string;
  readonly subnet: Cidr;
}

export interface RequestAddress {
  readonly pool: string;
  /** `--ip`, `--gateway`, or undefined: choose. */
  readonly ip: Ip | undefined;
  readonly purpose: "gateway" | "endpoint";
}
