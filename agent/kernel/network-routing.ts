import { type Family, familyOf } from "../../shared/ip.ts";
import {
  type DesiredNetwork,
  type DeviceShape,
  type InterfaceAddress,
  type Transit,
} from "../core/data-plane/kernel-state.ts";
import { transitInet } from "../core/data-plane/transit.ts";
import type { HostNamespace } from "./host-namespace.ts";
import { inetFaults6, inetFaultsOf, mendInet, mendInet6, type NamespaceInet } from "./inet.ts";
import type { Link } from "./netlink/route.ts";
import { forwardingFaults, type NetworkNamespace, setForwarding } from "./network-namespace.ts";
import { TransitFilter } from "./nft/transit-filter.ts";
import { TransitLink } from "./transit-link.ts";

/** What a network's namespace routes: to the gateways' own subnets, and by the transit to all else. */
export class NetworkRouting {
  readonly #namespace: NetworkNamespace;
  readonly #host: HostNamespace;
  readonly #link: TransitLink;
  readonly #filter: TransitFilter;

  constructor(namespace: NetworkNamespace, host: HostNamespace) {
    this.#namespace = namespace;
    this.#host = host;
    this.#link = new TransitLink(namespace, host);
    this.#filter = new TransitFilter(namespace.path);
  }

  /** The transit, undefined when it is not whole. */
  read(
    links: readonly Link[],
    addressesAt: (link: number) => readonly InterfaceAddress[],
  ): Promise<Transit | undefined> {
    return this.#link.read(links, addressesAt);
  }

  /** Of another address or transit the shape tells. */
  async faults(
    links: readonly Link[],
    bridge: number,
    { gateways, transit, mtuBytes }: Pick<DeviceShape, "gateways" | "transit" | "mtuBytes">,
  ): Promise<string[]> {
    const { socket, path } = this.#namespace;
    const inside = transit && this.#link.inside(links);
    const inet = inetOf(bridge, gateways, transit, inside?.index);
    const isNarrow = inside !== undefined && inside.mtuBytes < transitMtu(mtuBytes);
    return [
      ...forwardingFaults(path, familiesOf(transit)),
      ...(isNarrow ? [`its way out has the MTU ${inside.mtuBytes}`] : []),
      ...(await inetFaultsOf(socket, inet)),
      ...(await inetFaults6(socket, inet)),
      ...(await this.#filter.faults(transit, gateways)),
      ...(transit === undefined ? [] : this.#host.transitFaults(transit.link)),
    ];
  }

  /** Rules before forwarding, and forwarding before the route that leads there; the other way round when it ends. */
  async put(
    { transit, gateways, mtuBytes }: Pick<DesiredNetwork, "gateways" | "transit" | "mtuBytes">,
    bridge: number,
  ): Promise<void> {
    const { socket, path } = this.#namespace;
    if (transit === undefined) await this.#link.remove();
    else await this.#filter.put(transit, gateways);
    const inside = transit && (await this.#link.put(transit, transitMtu(mtuBytes)));
    setForwarding(path, familiesOf(transit));
    const inet = inetOf(bridge, gateways, transit, inside);
    await mendInet(socket, inet);
    await mendInet6(socket, inet);
    if (transit === undefined) await this.#filter.remove();
  }
}

function familiesOf(transit: Transit | undefined): Family[] {
  return (transit?.ends ?? []).map(({ inside }) => familyOf(inside));
}

/** With less than 1280 the kernel has no IPv6 on a link (RFC 8200, 5). */
function transitMtu(mtuBytes: number): number {
  return Math.max(mtuBytes, 1280);
}

/** @param inside the transit's end here, by index */
function inetOf(
  bridge: number,
  gateways: readonly InterfaceAddress[],
  transit: Transit | undefined,
  inside: number | undefined,
): NamespaceInet {
  const own = gateways.map((gateway) => ({ ...gateway, link: bridge }));
  if (transit === undefined || inside === undefined) return { links: [bridge], addresses: own };
  const { addresses, routes } = transitInet(transit, gateways, inside);
  return { links: [bridge, inside], addresses: [...own, ...addresses], routes };
}
