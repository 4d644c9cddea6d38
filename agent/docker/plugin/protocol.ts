import { z } from "zod";
import { asFailure, OverlayError } from "../../../shared/errors.ts";
import { DockerNetworkId, EndpointId } from "../../../shared/ids.ts";
import {
  Cidr,
  cidrContainsCidr,
  type Family,
  familyOf,
  Ip,
  parseInterfaceAddress,
} from "../../../shared/ip.ts";
import { issuesOf } from "../../../shared/issues.ts";
import { Mac } from "../../../shared/mac.ts";
import type { CreateEndpoint, CreateNetwork, Join, NetworkPool } from "./port.ts";
import type { RequestAddress, RequestPool } from "../../networks/ipam-port.ts";

/**
 * The bodies of Docker's v1 plugin calls (moby libnetwork/drivers/remote/api, ipams/remote/api),
 * read into the port's types. Fields we do not know are ignored: engines of all ages call.
 */

export const ADDRESS_SPACE = "overlay-ts";
const GENERIC = "com.docker.network.generic";
const ENABLE_IPV4 = "com.docker.network.enable_ipv4";
const INTERNAL = "com.docker.network.internal";
const MAC_ADDRESS = "com.docker.network.endpoint.macaddress";
const ADDRESS_TYPE = "RequestAddressType";
const GATEWAY = "com.docker.network.gateway";

const Options = z.record(z.string(), z.unknown()).nullish();
const StringOptions = z.record(z.string(), z.string()).nullish();
/** Go's empty string: not given. */
const Text = z.string().nullish();

const PoolData = z.object({
  AddressSpace: Text,
  Pool: z.string(),
  Gateway: Text,
  /** By the user's name for it: `address/prefix`. */
  AuxAddresses: StringOptions,
});
type PoolData = z.infer<typeof PoolData>;

/**
 * What Go writes for an address that Docker's own IPAM would not reserve, since it lies outside --ip-range;
 * engines since 28 give the address itself.
 */
const NO_ADDRESS = "<nil>";

/** A body that says nothing we need. */
export function readNothing(body: unknown): undefined {
  parse(z.object({}), body);
}

const CreateNetworkBody = z.object({
  NetworkID: DockerNetworkId,
  Options,
  IPv4Data: z.array(PoolData).nullish(),
  IPv6Data: z.array(PoolData).nullish(),
});

export function readCreateNetwork(body: unknown): CreateNetwork {
  const { NetworkID, Options: all, IPv4Data, IPv6Data } = parse(CreateNetworkBody, body);
  if (all?.[ENABLE_IPV4] === false) throw withoutIpv4();
  return {
    id: NetworkID,
    options: parse(StringOptions, all?.[GENERIC]) ?? {},
    internal: all?.[INTERNAL] === true,
    pools: [...poolsOf(4, IPv4Data ?? []), ...poolsOf(6, IPv6Data ?? [])],
  };
}

/** Engines since 28 can; on the others such a network has IPv4, and containers here would not reach it. */
function withoutIpv4(): OverlayError {
  return new OverlayError({
    code: "UNSUPPORTED",
    message: "an overlay-ts network has IPv4 on every host: engines before 28 have none without it",
    next: "leave --ipv4=false away; --ipv6 makes it dual stack",
  });
}

/** @throws INVALID for a second one: a network has one subnet of each family. */
function poolsOf(family: Family, given: readonly PoolData[]): NetworkPool[] {
  if (given.length > 1)
    throw new OverlayError({
      code: "INVALID",
      message: `an overlay-ts network has one IPv${family} subnet, and these were given: ${given.map(({ Pool }) => Pool).join(", ")}`,
      next: "give one --subnet of each family, or make a network for each",
    });
  return given.map(({ AddressSpace, Pool, Gateway, AuxAddresses }) => ({
    ipam: AddressSpace === ADDRESS_SPACE ? "overlay-ts" : "docker",
    subnet: ofFamily(family, parse(Cidr, networkOf(Pool))),
    gateway: Gateway ? interfaceAddress(Gateway) : undefined,
    reserved: Object.entries(AuxAddresses ?? {}).map(([name, text]) => reservedOf(name, text)),
  }));
}

function reservedOf(name: string, text: string): Ip {
  if (text !== NO_ADDRESS) return interfaceAddress(text);
  throw new OverlayError({
    code: "INVALID",
    message: `Docker before 28 does not say which address --aux-address ${name} is: it lies outside of --ip-range`,
    next: "add --ipam-driver overlay-ts, choose it inside of the range, or make the network on a host with Docker 28",
  });
}

const NetworkBody = z.object({ NetworkID: DockerNetworkId });

export function readNetwork(body: unknown): DockerNetworkId {
  return parse(NetworkBody, body).NetworkID;
}

const EndpointBody = z.object({ NetworkID: DockerNetworkId, EndpointID: EndpointId });

export function readEndpoint(body: unknown): { network: DockerNetworkId; endpoint: EndpointId } {
  const { NetworkID, EndpointID } = parse(EndpointBody, body);
  return { network: NetworkID, endpoint: EndpointID };
}

const CreateEndpointBody = EndpointBody.extend({
  Options,
  Interface: z.object({ Address: Text, AddressIPv6: Text, MacAddress: Text }).nullish(),
});

export function readCreateEndpoint(body: unknown): CreateEndpoint {
  const { NetworkID, EndpointID, Options: all, Interface } = parse(CreateEndpointBody, body);
  const given = Interface?.MacAddress ? macOf(Interface.MacAddress) : undefined;
  return {
    network: NetworkID,
    endpoint: EndpointID,
    ipv4: addressOf(4, Interface?.Address),
    ipv6: addressOf(6, Interface?.AddressIPv6),
    mac: given ?? macOption(all?.[MAC_ADDRESS]),
    // Docker refuses an answer that repeats what it gave.
    macGiven: given !== undefined,
  };
}

const JoinBody = EndpointBody.extend({ SandboxKey: z.string(), Options });

/** Of all of the container's networks (netlabel.PortMap of moby's libnetwork): CreateEndpoint may go without. */
const PORT_MAP = "com.docker.network.portmap";

export function readJoin(body: unknown): Join {
  const { NetworkID, EndpointID, SandboxKey, Options: all } = parse(JoinBody, body);
  const ports = all?.[PORT_MAP];
  const publishes = Array.isArray(ports) && ports.length > 0;
  return { network: NetworkID, endpoint: EndpointID, sandbox: SandboxKey, publishes };
}

const RequestPoolBody = z.object({
  AddressSpace: z.string(),
  Pool: Text,
  SubPool: Text,
  Options: StringOptions,
  V6: z.boolean().nullish(),
});

/** @throws INVALID also for options, ranges and families that no pool of ours can have. */
export function readRequestPool(body: unknown): RequestPool {
  const { Pool, SubPool, Options: options, V6 } = parse(RequestPoolBody, body);
  const family = V6 === true ? 6 : 4;
  const subnet = Pool ? ofFamily(family, parse(Cidr, networkOf(Pool))) : undefined;
  const range = SubPool ? ofFamily(family, parse(Cidr, networkOf(SubPool))) : undefined;
  if (range !== undefined && (subnet === undefined || !cidrContainsCidr(subnet, range)))
    throw new OverlayError({
      code: "INVALID",
      message: `the range ${range} does not lie in ${subnet ?? "a subnet that was given"}`,
      next: "give --subnet, and an --ip-range inside of it",
    });
  for (const name of Object.keys(options ?? {}))
    throw new OverlayError({
      code: "INVALID",
      message: `overlay-ts knows no IPAM option ${name}`,
      next: "leave it away: there are none",
    });
  return { subnet, range, ipv6: V6 === true };
}

const PoolBody = z.object({ PoolID: z.string().max(256) });

export function readPool(body: unknown): string {
  return parse(PoolBody, body).PoolID;
}

const AddressBody = PoolBody.extend({ Address: Text, Options: StringOptions });

export function readRequestAddress(body: unknown): RequestAddress {
  const { PoolID, Address, Options: options } = parse(AddressBody, body);
  return {
    pool: PoolID,
    ip: Address ? parse(Ip, Address) : undefined,
    purpose: options?.[ADDRESS_TYPE] === GATEWAY ? "gateway" : "endpoint",
  };
}

export function readReleaseAddress(body: unknown): { pool: string; ip: Ip } {
  const { PoolID, Address } = parse(AddressBody, body);
  return { pool: PoolID, ip: parse(Ip, Address ?? "") };
}

/** @throws INVALID: a retried call can come with an empty body, which must change nothing. */
function parse<S extends z.ZodType>(schema: S, value: unknown): z.infer<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw notUnderstood(issuesOf(parsed.error), parsed.error);
}

function notUnderstood(why: string, cause?: unknown): OverlayError {
  return new OverlayError(
    {
      code: "INVALID",
      message: `Docker's call is not understood: ${why}`,
      next: "try again; if it stays, this engine's version speaks another plugin protocol",
    },
    { cause },
  );
}

function ofFamily<T extends Cidr | Ip>(family: Family, address: T): T {
  if (familyOf(address) === family) return address;
  throw notUnderstood(`${address} is not IPv${family}`);
}

/** `10.1.2.3/16`: Docker takes host bits in `--subnet` and passes them on. */
function networkOf(text: string): string {
  try {
    return parseInterfaceAddress(text).subnet;
  } catch {
    return text;
  }
}

/** `10.1.2.3/16`, the address of it. */
function interfaceAddress(text: string): Ip {
  try {
    return parseInterfaceAddress(text).ip;
  } catch (cause) {
    throw notUnderstood(asFailure(cause).message, cause);
  }
}

function addressOf(family: Family, text: string | null | undefined): Ip | undefined {
  return text ? ofFamily(family, interfaceAddress(text)) : undefined;
}

/** `--mac-address`: Go's bytes, in base64. */
function macOption(value: unknown): Mac | undefined {
  if (value === undefined || value === null || value === "") return undefined;
  const bytes = Buffer.from(parse(z.string(), value), "base64");
  return macOf([...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":"));
}

function macOf(text: string): Mac {
  const mac = Mac.safeParse(text);
  if (mac.success) return mac.data;
  throw new OverlayError({
    code: "INVALID",
    message: `--mac-address ${text} is no unicast Ethernet address of six bytes`,
    next: "give one such as 0a:1b:2c:3d:4e:5f, or none",
  });
}
