/** Every bound of the wire and the tables. What passes a bound is dropped and counted, see `status`. */
export const BOUNDS = {
  /** Bridge ports: BR_MAX_PORTS 1024, of which 0 is none (find_portno of net/bridge/br_if.c), less the VXLAN port. */
  endpointsPerHostAndNetwork: 1022,
  nodes: 1000,
  networks: 4000,
  /** Of the controller, expired ones of the last day included. */
  tokens: 1000,
  /** One gossip message: a delta; whole documents travel by sync only. */
  gossipMessageBytes: 64 * 1024,
  /** One sync request or answer. */
  syncMessageBytes: 4 * 1024 * 1024,
  /** The cluster state signed whole, as hosts of 0.1.0 take it. */
  stateBytes: 2 * 1024 * 1024,
  /** One object of the state, when it comes to be; one of 0.1.0 may be larger. */
  objectBytes: 64 * 1024,
  /** All objects of the state. */
  objectsBytes: 16 * 1024 * 1024,
  /** From one root of it to another. */
  changesAtOnce: 256,
  /** Of those that something waits for. */
  hostsNamed: 16,
  /** What the controller answers. */
  controlAnswerBytes: 24 * 1024 * 1024,
  /** Of a network on a host, one or more each. */
  blocks: 40_000,
  /** Virtual addresses of one network. */
  vipsOfNetwork: 1000,
  /** Of all networks. */
  vips: 20_000,
  /** A plugin call's or local API call's body. */
  httpBodyBytes: 1024 * 1024,
  /** Address pools that Docker asked for and made no network of. */
  unboundPools: 64,
  /** `--aux-address` of one subnet. */
  reservedAddresses: 64,
  /** In `names`, which is what hosts of 0.1.0 take. */
  endpointNames: 32,
  /** In `moreNames`. */
  moreEndpointNames: 96,
  /** All of an endpoint together: no more than hosts of 0.1.0 can say, so that a document still fits a message. */
  endpointNameCharacters: 32 * 253,
  /** What SRV records tell of: ports that a container publishes or exposes. */
  endpointPorts: 32,
  /** RFC 1035, 2.3.4, as text without the last dot. */
  nameLength: 253,
  labels: 128,
  labelBytes: 4096,
} as const;
