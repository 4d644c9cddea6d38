import type { IpamDriver, NetworkDriver } from "./port.ts";

/**
 * Drivers that are whoever `current` gives when Docker calls: it keeps the socket it once found, also
 * while this host is in no cluster. Every method rejects with what `current` rejects with; a call
 * whose time was over before there was a driver is not begun.
 */
export function delegateNetwork(current: () => Promise<NetworkDriver>): NetworkDriver {
  const inTime = stillWanted(current);
  return {
    createNetwork: async (request, signal) => (await inTime(signal)).createNetwork(request, signal),
    deleteNetwork: async (network) => (await current()).deleteNetwork(network),
    createEndpoint: async (request, signal) =>
      (await inTime(signal)).createEndpoint(request, signal),
    deleteEndpoint: async (network, endpoint) =>
      (await current()).deleteEndpoint(network, endpoint),
    join: async (request, signal) => (await inTime(signal)).join(request, signal),
    leave: async (network, endpoint) => (await current()).leave(network, endpoint),
  };
}

export function delegateIpam(current: () => Promise<IpamDriver>): IpamDriver {
  const inTime = stillWanted(current);
  return {
    requestPool: async (request, signal) => (await inTime(signal)).requestPool(request, signal),
    releasePool: async (pool) => (await current()).releasePool(pool),
    requestAddress: async (request, signal) =>
      (await inTime(signal)).requestAddress(request, signal),
    releaseAddress: async (pool, ip) => (await current()).releaseAddress(pool, ip),
  };
}

function stillWanted<T>(current: () => Promise<T>): (signal: AbortSignal) => Promise<T> {
  return async (signal) => {
    const driver = await current();
    signal.throwIfAborted();
    return driver;
  };
}
