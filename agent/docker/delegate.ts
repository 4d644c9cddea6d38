import type { IpamDriver, NetworkDriver } from "./port.ts";

/**
 * Drivers that are whoever `current` gives when Docker calls: it keeps the socket it once found, also
 * while this host is in no cluster. Every method rejects with what `current` rejects with.
 */
export function delegateNetwork(current: () => Promise<NetworkDriver>): NetworkDriver {
  return {
    createNetwork: async (request) => (await current()).createNetwork(request),
    deleteNetwork: async (network) => (await current()).deleteNetwork(network),
    createEndpoint: async (request) => (await current()).createEndpoint(request),
    deleteEndpoint: async (network, endpoint) =>
      (await current()).deleteEndpoint(network, endpoint),
    join: async (request) => (await current()).join(request),
    leave: async (network, endpoint) => (await current()).leave(network, endpoint),
  };
}

export function delegateIpam(current: () => Promise<IpamDriver>): IpamDriver {
  return {
    requestPool: async (request) => (await current()).requestPool(request),
    releasePool: async (pool) => (await current()).releasePool(pool),
    requestAddress: async (request) => (await current()).requestAddress(request),
    releaseAddress: async (pool, ip) => (await current()).releaseAddress(pool, ip),
  };
}
