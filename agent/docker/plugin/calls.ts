import { OverlayError } from "../../../shared/errors.ts";
import { type Family, familyOf, type Ip, prefixLength } from "../../../shared/ip.ts";
import type { NetworkDriver } from "./port.ts";
import type { IpamDriver } from "../../networks/ipam-port.ts";
import * as protocol from "./protocol.ts";

/** What a call gets beside its body. */
export interface CallContext {
  /** Aborted at the call's deadline: nothing may take effect after it. */
  readonly signal: AbortSignal;
  /** The body was read. */
  readonly decoded: () => void;
}

export type Call = (body: unknown, context: CallContext) => Promise<unknown>;

/** Every call of Docker's v1 plugin protocol (moby libnetwork/docs/remote.md, ipam.md), by its path. */
export function pluginCalls(
  network: NetworkDriver,
  ipam: IpamDriver,
): Readonly<Record<string, Call>> {
  return { ...general(), ...networkCalls(network), ...ipamCalls(ipam) };
}

/** A body is read whole before anything is done with it. */
function call<T>(
  read: (body: unknown) => T,
  carryOut: (request: T, signal: AbortSignal) => Promise<unknown>,
): Call {
  return async (body, { signal, decoded }) => {
    const request = read(body);
    decoded();
    return carryOut(request, signal);
  };
}

function general(): Record<string, Call> {
  return {
    "Plugin.Activate": call(protocol.readNothing, async () => ({
      Implements: ["NetworkDriver", "IpamDriver"],
    })),
  };
}

function networkCalls(driver: NetworkDriver): Record<string, Call> {
  const notified = call(protocol.readNothing, async () => ({}));
  const external = call(protocol.readEndpoint, async () => ({}));
  const swarmOnly = call(protocol.readNetwork, () => Promise.reject(localOnly()));
  return {
    "NetworkDriver.GetCapabilities": call(protocol.readNothing, async () => ({
      Scope: "local",
      ConnectivityScope: "global",
    })),
    "NetworkDriver.CreateNetwork": call(protocol.readCreateNetwork, async (request, signal) => {
      await driver.createNetwork(request, signal);
      return {};
    }),
    "NetworkDriver.DeleteNetwork": call(protocol.readNetwork, async (id) => {
      await driver.deleteNetwork(id);
      return {};
    }),
    "NetworkDriver.CreateEndpoint": call(protocol.readCreateEndpoint, async (request, signal) => {
      const { mac } = await driver.createEndpoint(request, signal);
      return { Interface: request.macGiven ? {} : { MacAddress: mac } };
    }),
    "NetworkDriver.DeleteEndpoint": call(protocol.readEndpoint, async ({ network, endpoint }) => {
      await driver.deleteEndpoint(network, endpoint);
      return {};
    }),
    "NetworkDriver.EndpointOperInfo": call(protocol.readEndpoint, async () => ({ Value: {} })),
    "NetworkDriver.Join": call(protocol.readJoin, async (request, signal) => {
      const { link, prefix, internal, gateways } = await driver.join(request, signal);
      const of = (family: Family): Ip | undefined => gateways.find((ip) => familyOf(ip) === family);
      // With none Docker's own docker_gwbridge is the way out, and serves -p.
      return {
        InterfaceName: { SrcName: link, DstPrefix: prefix },
        ...(of(4) === undefined ? {} : { Gateway: of(4) }),
        ...(of(6) === undefined ? {} : { GatewayIPv6: of(6) }),
        DisableGatewayService: internal,
      };
    }),
    "NetworkDriver.Leave": call(protocol.readEndpoint, async ({ network, endpoint }) => {
      await driver.leave(network, endpoint);
      return {};
    }),
    "NetworkDriver.DiscoverNew": notified,
    "NetworkDriver.DiscoverDelete": notified,
    "NetworkDriver.ProgramExternalConnectivity": external,
    "NetworkDriver.RevokeExternalConnectivity": external,
    "NetworkDriver.AllocateNetwork": swarmOnly,
    "NetworkDriver.FreeNetwork": swarmOnly,
    // Skipped, Docker's own IPAM would give the gateway's address to the first container.
    "NetworkDriver.GwAllocCheck": call(protocol.readNothing, async () => ({
      SkipIPv4: false,
      SkipIPv6: false,
    })),
  };
}

function ipamCalls(driver: IpamDriver): Record<string, Call> {
  return {
    "IpamDriver.GetCapabilities": call(protocol.readNothing, async () => ({
      RequiresMACAddress: false,
      RequiresRequestReplay: false,
    })),
    "IpamDriver.GetDefaultAddressSpaces": call(protocol.readNothing, async () => ({
      LocalDefaultAddressSpace: protocol.ADDRESS_SPACE,
      GlobalDefaultAddressSpace: `${protocol.ADDRESS_SPACE}-global`,
    })),
    "IpamDriver.RequestPool": call(protocol.readRequestPool, async (request, signal) => {
      const { id, subnet } = await driver.requestPool(request, signal);
      return { PoolID: id, Pool: subnet, Data: {} };
    }),
    "IpamDriver.ReleasePool": call(protocol.readPool, async (pool) => {
      await driver.releasePool(pool);
      return {};
    }),
    "IpamDriver.RequestAddress": call(protocol.readRequestAddress, async (request, signal) => {
      const { ip, subnet } = await driver.requestAddress(request, signal);
      return { Address: `${ip}/${prefixLength(subnet)}`, Data: {} };
    }),
    "IpamDriver.ReleaseAddress": call(protocol.readReleaseAddress, async ({ pool, ip }) => {
      await driver.releaseAddress(pool, ip);
      return {};
    }),
  };
}

/** Only asked of drivers of scope `global` (moby libnetwork/cnmallocator). */
function localOnly(): OverlayError {
  return new OverlayError({
    code: "UNSUPPORTED",
    message: "overlay-ts networks are not Swarm's",
    next: "leave --scope swarm away: they span hosts without it",
  });
}
