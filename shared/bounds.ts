/** Every bound of the wire and the tables. What passes a bound is dropped and counted, see `status`. */
export const BOUNDS = {
  /** Bridge ports: BR_MAX_PORTS 1024 less the VXLAN port (net/bridge/br_private.h). */
  endpointsPerHostAndNetwork: 1023,
  nodes: 1000,
  networks: 4000,
  /** One gossip message: a delta; whole documents travel by sync only. */
  gossipMessageBytes: 64 * 1024,
  /** One sync request or answer. */
  syncMessageBytes: 4 * 1024 * 1024,
  /** The signed cluster state. */
  stateBytes: 2 * 1024 * 1024,
  /** A plugin call's or local API call's body. */
  httpBodyBytes: 1024 * 1024,
  endpointNames: 32,
  reservedAddresses: 64,
  labels: 128,
  labelBytes: 4096,
} as const;
