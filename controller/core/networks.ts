import { BOUNDS } from "../../shared/bounds.ts";
import { toBase64Url } from "../../shared/base64url.ts";
import type { ClusterState, NetworkRecord, SubnetRecord } from "../../shared/cluster-state.ts";
import { hex } from "../../shared/codec.ts";
import { OverlayError } from "../../shared/errors.ts";
import { type DockerNetworkId, NetworkId, type NodeId, Vni } from "../../shared/ids.ts";
import {
  Cidr,
  cidrContains,
  cidrContainsCidr,
  cidrOverlaps,
  familyOf,
  type Ip,
  ipToNumber,
  numberToIp,
  partOf,
  rangeOf,
} from "../../shared/ip.ts";
import { freeSubnet, reservedSubnets } from "../../shared/subnets.ts";
import { readOptions } from "./options.ts";
import {
  admittedNode,
  type Context,
  type ControllerRecord,
  type Transition,
  withNumbers,
  withState,
} from "./record.ts";

const IPV6_LEAST_MTU_BYTES = 1280;
/** "This network", loopback, multicast and reserved, link-local (RFC 6890). */
const NOT_FOR_HOSTS = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "224.0.0.0/3",
  "::/127",
  "fe80::/10",
  "ff00::/8",
].map((text) => Cidr.parse(text));

/** What a user asks for; what is absent is the cluster's to choose. */
export interface NetworkRequest {
  readonly name?: string | undefined;
  readonly subnets: readonly {
    readonly subnet: Cidr;
    readonly gateway?: Ip | undefined;
    /** `--ip-range` */
    readonly range?: Cidr | undefined;
    /** `--aux-address` */
    readonly reserved?: readonly Ip[] | undefined;
    /** Docker's own IPAM hands out this subnet on the creating host, lowest address first. */
    readonly dockerIpam?: boolean | undefined;
  }[];
  readonly internal: boolean;
  readonly attachable: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly driverOptions: Readonly<Record<string, string>>;
  readonly createdAs?: DockerNetworkId | undefined;
}

/**
 * A new network. The same engine network asked twice is made once: Docker retries.
 * @throws INVALID, CONFLICT (name, subnet), FULL, UNSUPPORTED.
 */
export function createNetwork(
  record: ControllerRecord,
  creator: NodeId,
  request: NetworkRequest,
  { wallMs, random }: Context,
): Transition<NetworkRecord> {
  const { state } = record;
  const again = state.networks.find(
    ({ createdBy, createdAs }) =>
      createdAs !== undefined && createdBy === creator && createdAs === request.createdAs,
  );
  if (again !== undefined) return { record, result: again };
  if (request.name !== undefined) checkName(state, request.name);
  if (state.networks.length >= BOUNDS.networks)
    throw new OverlayError({
      code: "FULL",
      message: `the cluster has ${BOUNDS.networks} networks, the most it can have`,
      next: "remove networks that are no longer used",
    });
  const options = readOptions(request.driverOptions, state);
  // As Docker: IPv4 always, from the cluster's pools unless given.
  const asked = request.subnets.some(({ subnet }) => familyOf(subnet) === 4)
    ? request.subnets
    : [{ subnet: freeSubnet(state, random, 4) }, ...request.subnets];
  checkFamilies(asked, options.mtuBytes);
  const subnets = asked.map((subnet) => subnetRecord(state, subnet));
  const network: NetworkRecord = {
    id: NetworkId.parse(hex(random.bytes(16))),
    ...(request.name === undefined ? {} : { name: request.name }),
    vni: Vni.parse(record.nextVni),
    encryption: options.encryption,
    subnets,
    mtuBytes: options.mtuBytes,
    multicast: options.multicast,
    unhealthyNames: options.unhealthyNames,
    internal: request.internal,
    attachable: request.attachable,
    labels: { ...request.labels },
    driverOptions: { ...request.driverOptions },
    createdBy: creator,
    ...(request.createdAs === undefined ? {} : { createdAs: request.createdAs }),
    createdAtMs: wallMs,
    keyEpoch: 1,
  };
  // Docker's own IPAM on the creating host starts at the lowest address: that half is its for good.
  const lowerHalves = asked
    .filter(({ dockerIpam }) => dockerIpam === true)
    .map(({ subnet }) => ({ network: network.id, block: partOf(subnet, 1, 0), node: creator }));
  return {
    record: {
      ...withNumbers(
        withState(record, {
          networks: [...state.networks, network],
          blocks: [...state.blocks, ...lowerHalves],
        }),
        { nextVni: record.nextVni + 1 },
      ),
      networkKeys: { ...record.networkKeys, [network.id]: toBase64Url(random.bytes(32)) },
    },
    result: network,
  };
}

/** Docker tells a network's name and labels only after it was made. @throws CONFLICT, NOT_FOUND. */
export function nameNetwork(
  record: ControllerRecord,
  from: NodeId,
  id: NetworkId,
  request: Pick<NetworkRequest, "labels" | "attachable"> & {
    readonly name: string;
    /** `--ip-range` of Docker's own IPAM, which keeps it from the plugin's calls. */
    readonly dockerRanges?: readonly Cidr[] | undefined;
  },
): Transition<NetworkRecord> {
  const { name, labels, attachable, dockerRanges = [] } = request;
  const held = networkOf(record.state, id);
  if (held.name === name) return { record, result: held };
  // Tokens restrict hosts by network name: whoever could rename could widen what it may have.
  if (held.createdBy !== from || held.name !== undefined)
    throw new OverlayError({
      code: "FORBIDDEN",
      message: `network ${held.name ?? id} is not this host's to name`,
      next: "the host that made a network names it, once: make another network",
    });
  checkName(record.state, name);
  const { subnets, blocks } = dockerRanges.reduce(withDockerRange, {
    subnets: held.subnets,
    blocks: record.state.blocks.filter(({ network }) => network === id),
  });
  const named: NetworkRecord = { ...held, name, labels: { ...labels }, attachable, subnets };
  const networks = record.state.networks.map((network) => (network.id === id ? named : network));
  const others = record.state.blocks.filter(({ network }) => network !== id);
  return {
    record: withState(record, { networks, blocks: [...others, ...blocks] }),
    result: named,
  };
}

/** Docker's own IPAM hands out this range only: instead of the subnet's halves, its halves. */
function withDockerRange(
  { subnets, blocks }: Pick<NetworkRecord, "subnets"> & Pick<ClusterState, "blocks">,
  range: Cidr,
): Pick<NetworkRecord, "subnets"> & Pick<ClusterState, "blocks"> {
  const subnet = subnets.find((candidate) => cidrContainsCidr(candidate.subnet, range));
  if (subnet === undefined) return { subnets, blocks };
  const lowerHalf = partOf(subnet.subnet, 1, 0);
  const { first, last } = rangeOf(range);
  const [lower, upper] =
    last - first < 3n ? [range, range] : [partOf(range, 1, 0), partOf(range, 1, 1)];
  return {
    subnets: subnets.map((held) => (held === subnet ? { ...held, dynamicRanges: [upper] } : held)),
    blocks: blocks.map((held) => (held.block === lowerHalf ? { ...held, block: lower } : held)),
  };
}

/**
 * Gone for all hosts, with its blocks and key. Gone already is success: Docker retries. A host that
 * its token restricts ends only what it made. @throws FORBIDDEN
 */
export function removeNetwork(
  record: ControllerRecord,
  from: NodeId,
  id: NetworkId,
): Transition<undefined> {
  const { state } = record;
  const held = state.networks.find((network) => network.id === id);
  if (held === undefined) return { record, result: undefined };
  if (held.createdBy !== from && admittedNode(record, from).allowedNetworks !== undefined)
    throw new OverlayError({
      code: "FORBIDDEN",
      message: `network ${held.name ?? id} was made by another host, and this one is restricted`,
      next: "remove it on the host that made it",
    });
  const { [id]: _, ...networkKeys } = record.networkKeys;
  const { vips: all = [], ...others } = state;
  const vips = all.filter(({ network }) => network !== id);
  return {
    record: {
      ...withState(
        { ...record, state: others },
        {
          networks: state.networks.filter((network) => network.id !== id),
          blocks: state.blocks.filter((block) => block.network !== id),
          ...(vips.length === 0 ? {} : { vips }),
        },
      ),
      networkKeys,
    },
    result: undefined,
  };
}

/** New keys for these networks, for the hosts that are still allowed to have them. */
export function rotateKeys(
  record: ControllerRecord,
  ids: readonly NetworkId[],
  { random, wallMs }: Context,
): ControllerRecord {
  const networks = record.state.networks.map((network) =>
    ids.includes(network.id)
      ? { ...network, keyEpoch: network.keyEpoch + 1, keyedAtMs: wallMs }
      : network,
  );
  const fresh = ids.map((id) => [id, toBase64Url(random.bytes(32))] as const);
  return {
    ...withState(record, { networks }),
    networkKeys: { ...record.networkKeys, ...Object.fromEntries(fresh) },
  };
}

/** @throws NOT_FOUND */
export function networkOf(state: ClusterState, id: NetworkId): NetworkRecord {
  const found = state.networks.find((network) => network.id === id);
  if (found === undefined)
    throw new OverlayError({
      code: "NOT_FOUND",
      message: `no network ${id} in the cluster`,
      next: "see `overlay-ts network ls`",
    });
  return found;
}

function checkName(state: ClusterState, name: string): void {
  if (state.networks.some((network) => network.name === name))
    throw new OverlayError({
      code: "CONFLICT",
      message: `the cluster has a network ${name} already`,
      next: "use it, or choose another name",
    });
}

/** One subnet a family; IPv6 needs what RFC 8200, section 5, says that every link must carry. */
function checkFamilies(asked: NetworkRequest["subnets"], mtuBytes: number): void {
  const families = asked.map(({ subnet }) => familyOf(subnet));
  if (new Set(families).size < families.length)
    throw new OverlayError({
      code: "INVALID",
      message: `a network has one subnet a family, not ${asked.map(({ subnet }) => subnet).join(", ")}`,
      next: "make a network for each",
    });
  if (families.includes(6) && mtuBytes < IPV6_LEAST_MTU_BYTES)
    throw new OverlayError({
      code: "INVALID",
      message: `IPv6 needs an MTU of ${IPV6_LEAST_MTU_BYTES}, and this network would have ${mtuBytes}`,
      next: "leave IPv6 away, or give the hosts' interfaces a larger MTU",
    });
}

function subnetRecord(
  state: ClusterState,
  { subnet, gateway, range, reserved, dockerIpam }: NetworkRequest["subnets"][number],
): SubnetRecord {
  const special = NOT_FOR_HOSTS.find((other) => cidrOverlaps(other, subnet));
  if (special !== undefined)
    throw new OverlayError({
      code: "INVALID",
      message: `${subnet} overlaps ${special}, whose addresses are not for hosts`,
      next: "give a --subnet of private addresses, or none",
    });
  const owner = state.nodes.find(({ ownSubnets }) =>
    ownSubnets.some((own) => cidrOverlaps(own, subnet)),
  );
  const clash = reservedSubnets(state).find((other) => cidrOverlaps(other, subnet));
  if (clash !== undefined)
    throw new OverlayError({
      code: "CONFLICT",
      message: `${subnet} overlaps ${clash}, which ${owner === undefined ? "the cluster keeps for itself" : `host ${owner.name} uses`}`,
      next: "give another --subnet",
    });
  const { first, last, family } = rangeOf(subnet);
  if (last - first < 7n)
    throw new OverlayError({
      code: "INVALID",
      message: `${subnet} is too small for a network that spans hosts`,
      next: "give a --subnet of /29 or larger",
    });
  const gatewayIp = gateway ?? numberToIp(first + 1n, family);
  const edge = [first, ...(family === 4 ? [last] : [])];
  if (!cidrContains(subnet, gatewayIp) || edge.includes(ipToNumber(gatewayIp)))
    throw new OverlayError({
      code: "INVALID",
      message: `the gateway ${gatewayIp} is no host address of ${subnet}`,
      next: "give a --gateway inside of --subnet, neither its first nor its last address",
    });
  if (range !== undefined && !(familyOf(range) === family && cidrContainsCidr(subnet, range)))
    throw new OverlayError({
      code: "INVALID",
      message: `the range ${range} does not lie in ${subnet}`,
      next: "give an --ip-range inside of --subnet",
    });
  const outside = reserved?.find((ip) => !cidrContains(subnet, ip));
  if (outside !== undefined)
    throw new OverlayError({
      code: "INVALID",
      message: `--aux-address ${outside} does not lie in ${subnet}`,
      next: "give one inside of --subnet",
    });
  return {
    subnet,
    gateway: gatewayIp,
    dynamicRanges: range === undefined ? dynamicRanges(subnet, dockerIpam === true) : [range],
    ...(reserved === undefined || reserved.length === 0 ? {} : { reserved: [...reserved] }),
  };
}

/** The upper three quarters; the upper half where Docker's own IPAM fills the lower one. */
function dynamicRanges(subnet: Cidr, dockerIpam: boolean): Cidr[] {
  const upperHalf = partOf(subnet, 1, 1);
  return dockerIpam ? [upperHalf] : [partOf(subnet, 2, 1), upperHalf];
}
