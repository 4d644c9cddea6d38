import type { NetworkDriver } from "./port.ts";
import type { IpamDriver } from "../../networks/ipam-port.ts";

/** Who answers Docker now. */
export interface Current<T> {
  /** What gives Docker something. */
  readonly giving: () => Promise<T>;
  /** What Docker gives up: also asked of a host that is leaving, which makes Docker do so. */
  readonly takingBack: () => Promise<T>;
}

/**
 * Drivers that are whoever is current when Docker calls: it keeps the socket it once found, also
 * while this host is in no cluster. Every method rejects with what that rejects with; a call
 * whose time was over before there was a driver is not begun.
 */
export function delegateNetwork({ giving, takingBack }: Current<NetworkDriver>): NetworkDriver {
  const inTime = stillWanted(giving);
  return {
    createNetwork: async (request, signal) => (await inTime(signal)).createNetwork(request, signal),
    deleteNetwork: async (network) => (await takingBack()).deleteNetwork(network),
    createEndpoint: async (request, signal) =>
      (await inTime(signal)).createEndpoint(request, signal),
    deleteEndpoint: async (network, endpoint) =>
      (await takingBack()).deleteEndpoint(network, endpoint),
    join: async (request, signal) => (await inTime(signal)).join(request, signal),
    leave: async (network, endpoint) => (await takingBack()).leave(network, endpoint),
  };
}

export function delegateIpam({ giving, takingBack }: Current<IpamDriver>): IpamDriver {
  const inTime = stillWanted(giving);
  return {
    requestPool: async (request, signal) => (await inTime(signal)).requestPool(request, signal),
    releasePool: async (pool) => (await takingBack()).releasePool(pool),
    requestAddress: async (request, signal) =>
      (await inTime(signal)).requestAddress(request, signal),
    releaseAddress: async (pool, ip) => (await takingBack()).releaseAddress(pool, ip),
  };
}

function stillWanted<T>(current: () => Promise<T>): (signal: AbortSignal) => Promise<T> {
  return async (signal) => {
    const driver = await current();
    signal.throwIfAborted();
    return driver;
  };
}

/** The same for both. */
export function always<T>(current: () => Promise<T>): Current<T> {
  return { giving: current, takingBack: current };
}
