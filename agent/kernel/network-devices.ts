import { OverlayError } from "../../shared/errors.ts";
import { Vni } from "../../shared/ids.ts";
import { familyOf, Ip } from "../../shared/ip.ts";
import { type Mac, ruleMac } from "../../shared/mac.ts";
import type {
  DesiredNetwork,
  DeviceShape,
  InterfaceAddress,
} from "../core/data-plane/kernel-state.ts";
import { missing } from "./errno.ts";
import type { HostNamespace } from "./host-namespace.ts";
import * as route from "./netlink/route.ts";
import { floodsMulticast, hasRole, makePort } from "./netlink/bridge-port.ts";
import type { Request } from "./netlink/socket.ts";
import { withNetnsDescriptor } from "./netns.ts";
import type { NetworkNamespace } from "./network-namespace.ts";
import { withPortNamed } from "./port-holder.ts";

const BRIDGE = "br0";
const VXLAN = "vx0";

export interface NetworkDevices {
  readonly bridge: route.Link;
  readonly vxlan: route.Link;
}

/** Undefined is what is not there. */
export interface FoundDevices {
  readonly bridge: route.Link | undefined;
  readonly vxlan: route.Link | undefined;
}

export function devicesAmong(links: readonly route.Link[]): FoundDevices {
  return {
    bridge: links.find(({ name }) => name === BRIDGE),
    vxlan: links.find(({ name }) => name === VXLAN),
  };
}

/** @throws NETLINK ENODEV when one is not there. */
export function bothDevices(links: readonly route.Link[]): NetworkDevices {
  const { bridge, vxlan } = devicesAmong(links);
  if (bridge === undefined || vxlan === undefined)
    throw missing(bridge === undefined ? BRIDGE : VXLAN);
  return { bridge, vxlan };
}

/** Undefined: they do not work together. */
export function shapeOf(
  { bridge, vxlan }: FoundDevices,
  addresses: (link: number) => readonly InterfaceAddress[],
): DeviceShape | undefined {
  const working = bridge?.up === true && vxlan?.up === true && vxlan.master === bridge.index;
  if (!working || vxlan.vxlan === undefined) return undefined;
  return {
    vni: Vni.parse(vxlan.vxlan.vni),
    udpPort: vxlan.vxlan.udpPort,
    localVtep: Ip.parse(vxlan.vxlan.localVtep),
    mtuBytes: vxlan.mtuBytes,
    multicast: floodsMulticast(vxlan),
    gateways: addresses(bridge.index),
  };
}

/** Differences from how the devices are made and joined, beyond their shape, as sentences. */
export function deviceFaults(
  { bridge, vxlan }: FoundDevices,
  gateway: InterfaceAddress | undefined,
): string[] {
  if (bridge === undefined || vxlan === undefined) return [];
  const isOtherMac = gateway !== undefined && bridge.mac !== ruleMac(gateway.ip);
  const role = floodsMulticast(vxlan) ? "vxlanFlood" : "vxlan";
  const found: [boolean, string][] = [
    [isOtherMac, `its bridge has the MAC ${bridge.mac}`],
    [bridge.snoops, "its bridge has multicast snooping on"],
    [bridge.mtuBytes < vxlan.mtuBytes, `its bridge has the MTU ${bridge.mtuBytes}`],
    [vxlan.vxlan?.asMade === false, "its VXLAN device has another TTL, DF or learning"],
    [
      vxlan.master === bridge.index && !hasRole(vxlan, role),
      "its VXLAN device's port has other flags",
    ],
  ];
  return found.flatMap(([isFault, text]) => (isFault ? [text] : []));
}

/** The gateway's: the same on every host. @throws INVALID without a gateway. */
export function bridgeMac({ network, gateways: [gateway] }: DesiredNetwork): Mac {
  if (gateway === undefined)
    throw new OverlayError({ code: "INVALID", message: `network ${network} has no gateway` });
  return ruleMac(gateway.ip);
}

/** Makes devices that are missing or cannot be mended in place; `mac` is the bridge's. */
export async function makeDevices(
  namespace: NetworkNamespace,
  host: HostNamespace,
  desired: DesiredNetwork,
  mac: Mac,
): Promise<NetworkDevices> {
  const held = devicesAmong(await namespace.links());
  if (held.bridge === undefined)
    await namespace.socket.request(route.addBridge(BRIDGE, mac, desired.mtuBytes));
  await mendVxlan(namespace, host, desired, held.vxlan);
  return bothDevices(await namespace.links());
}

/**
 * Number, port and what else it is made with are not changed on a device: it alone is made anew, the ports stay. Its
 * VTEP is changed in place, so that a host that has another address keeps its entries and loses no frame.
 */
async function mendVxlan(
  { socket, path }: NetworkNamespace,
  host: HostNamespace,
  desired: DesiredNetwork,
  held: route.Link | undefined,
): Promise<void> {
  if (held !== undefined) {
    const { vni, udpPort, localVtep, asMade } = held.vxlan ?? {};
    const isMendable =
      vni === desired.vni &&
      udpPort === desired.udpPort &&
      localVtep !== undefined &&
      familyOf(localVtep) === familyOf(desired.localVtep) &&
      asMade;
    if (isMendable) {
      if (localVtep !== desired.localVtep) {
        await socket.request(route.setVxlanLocal(held, desired.localVtep));
        await host.forgetSources(desired.encryption, familyOf(localVtep));
      }
      return socket.request(route.setUp(held.index, desired.mtuBytes)).catch((error: unknown) => {
        throw withPortNamed(error, desired.udpPort);
      });
    }
    await socket.request(route.deleteLink(held.index, VXLAN));
  }
  await host.onUnderlay(desired.encryption, (underlay) =>
    withNetnsDescriptor(path, (fd) =>
      underlay.request(route.addVxlan(VXLAN, desired, ruleMac(desired.localVtep), fd)),
    ),
  );
}

/** What can be changed in place: joined, up, with MAC, MTU, flags and gateways, of which `held` are there. */
export function joinDevices(
  { bridge, vxlan }: NetworkDevices,
  { mtuBytes, multicast, gateways }: DesiredNetwork,
  mac: Mac,
  held: readonly InterfaceAddress[],
): Request[] {
  const isWanted = ({ ip, prefixLength }: InterfaceAddress): boolean =>
    gateways.some((wanted) => wanted.ip === ip && wanted.prefixLength === prefixLength);
  const strays = held.filter((address) => !isWanted(address));
  return [
    route.setBridge(bridge.index),
    ...(bridge.mac === mac ? [] : [route.setMac(bridge.index, mac)]),
    ...makePort(vxlan.index, bridge.index, multicast ? "vxlanFlood" : "vxlan"),
    route.setUp(bridge.index, mtuBytes),
    ...strays.map(({ ip, prefixLength }) => route.deleteAddress(bridge.index, ip, prefixLength)),
    ...gateways.map(({ ip, prefixLength }) => route.addAddress(bridge.index, ip, prefixLength)),
  ];
}
