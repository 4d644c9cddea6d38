import { z } from "zod";
import { OverlayError } from "../../shared/errors.ts";
import { DockerNetworkId, EndpointId } from "../../shared/ids.ts";
import { Cidr, Ip, parseInterfaceAddress } from "../../shared/ip.ts";
import { bytesToMac, Mac } from "../../shared/mac.ts";
import type { CreateEndpoint, CreateNetwork, Join, RequestAddress, RequestPool } from "./port.ts";

/**
 * The bodies of Docker's v1 plugin calls (moby libnetwork/drivers/remote/api, ipams/remote/api),
 * read into the port's types. Fields we do not know are ignored: engines of all ages call.
 */

export const ADDRESS_SPACE = "overlay-ts";
const GENERIC = "com.docker.network.generic";
const INTERNAL = "com.docker.network.internal";
const ENABLE_IPV6 = "com.docker.network.enable_ipv6";
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
  /** By name, each with the pool's prefix length. */
  AuxAddresses: z.record(z.string(), z.string()).nullish(),
});

const CreateNetworkBody = z.object({
  NetworkID: DockerNetworkId,
  Options,
  IPv4Data: z.array(PoolData).nullish(),
  IPv6Data: z.array(PoolData).nullish(),
});

export function readCreateNetwork(body: unknown): CreateNetwork {
  const { NetworkID, Options: all, IPv4Data, IPv6Data } = parse(CreateNetworkBody, body);
  const generic = z.record(z.string(), z.string()).safeParse(all?.[GENERIC]);
  const pools = [...(IPv4Data ?? []), ...(IPv6Data ?? [])].map(
    ({ AddressSpace, Pool, Gateway, AuxAddresses }) => ({
      ipam: AddressSpace === ADDRESS_SPACE ? ("overlay-ts" as const) : ("docker" as const),
      subnet: parse(Cidr, networkOf(Pool)),
      gateway: Gateway ? parseInterfaceAddress(Gateway).ip : undefined,
      reserved: Object.values(AuxAddresses ?? {}).map((text) => parseInterfaceAddress(text).ip),
    }),
  );
  return {
    id: NetworkID,
    options: generic.success ? generic.data : {},
    internal: all?.[INTERNAL] === true,
    ipv6: all?.[ENABLE_IPV6] === true,
    pools,
  };
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
  const given = Interface?.MacAddress ? parse(Mac, Interface.MacAddress) : undefined;
  return {
    network: NetworkID,
    endpoint: EndpointID,
    ipv4: addressOf(Interface?.Address),
    ipv6: addressOf(Interface?.AddressIPv6),
    mac: given ?? macOption(all?.[MAC_ADDRESS]),
    // Docker refuses an answer that repeats what it gave.
    macGiven: given !== undefined,
  };
}

const JoinBody = EndpointBody.extend({ SandboxKey: z.string() });

export function readJoin(body: unknown): Join {
  const { NetworkID, EndpointID, SandboxKey } = parse(JoinBody, body);
  return { network: NetworkID, endpoint: EndpointID, sandbox: SandboxKey };
}

const RequestPoolBody = z.object({
  AddressSpace: z.string(),
  Pool: Text,
  SubPool: Text,
  Options: StringOptions,
  V6: z.boolean().nullish(),
});

export function readRequestPool(body: unknown): RequestPool {
  const { Pool, SubPool, Options: options, V6 } = parse(RequestPoolBody, body);
  return {
    subnet: Pool ? parse(Cidr, networkOf(Pool)) : undefined,
    range: SubPool ? parse(Cidr, networkOf(SubPool)) : undefined,
    options: options ?? {},
    ipv6: V6 === true,
  };
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
  throw new OverlayError(
    {
      code: "INVALID",
      message: `Docker's call is not understood: ${z.prettifyError(parsed.error)}`,
      next: "try again; if it stays, this engine's version speaks another plugin protocol",
    },
    { cause: parsed.error },
  );
}

/** `10.1.2.3/16`: Docker takes host bits in `--subnet` and passes them on. */
function networkOf(text: string): string {
  try {
    return parseInterfaceAddress(text).subnet;
  } catch {
    return text;
  }
}

function addressOf(text: string | null | undefined): Ip | undefined {
  return text ? parseInterfaceAddress(text).ip : undefined;
}

/** `--mac-address`: base64 of six bytes. */
function macOption(value: unknown): Mac | undefined {
  if (typeof value !== "string" || value === "") return undefined;
  const bytes = Buffer.from(value, "base64");
  return bytes.length === 6 ? bytesToMac(bytes) : undefined;
}
