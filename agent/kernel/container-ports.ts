import {
  type ActualNetwork,
  type LocalPort,
  PORT_LINKS,
  portLink,
} from "../core/data-plane/kernel-state.ts";
import { containerLink } from "./container-link.ts";
import { missing } from "./errno.ts";
import type { HostNamespace } from "./host-namespace.ts";
import { deleteOneByOne } from "./netlink/deletions.ts";
import { hasRole, makePort } from "./netlink/bridge-port.ts";
import * as neighbour from "./netlink/neighbour.ts";
import * as route from "./netlink/route.ts";
import { withNetnsDescriptor } from "./netns.ts";
import { bothDevices, type FoundDevices } from "./network-devices.ts";
import type { NetworkNamespace } from "./network-namespace.ts";
import { type AliasedPort, decodeAlias, encodeAlias } from "./port-alias.ts";
import type { PortFilter } from "./nft/port-filter.ts";

export interface ContainerPortsModules {
  readonly namespace: NetworkNamespace;
  readonly host: HostNamespace;
  readonly filter: PortFilter;
}

/** The containers of one network that are here: a veth each, filtered, one end a port of the bridge. */
export class ContainerPorts {
  readonly #modules: ContainerPortsModules;

  constructor(modules: ContainerPortsModules) {
    this.#modules = modules;
  }

  async read(
    links: readonly route.Link[],
    { bridge, vxlan }: FoundDevices,
    fdb: readonly neighbour.Neighbour[],
  ): Promise<Pick<ActualNetwork, "ports" | "unfinishedPorts">> {
    const { filter } = this.#modules;
    const own = new Set(
      fdb.flatMap(({ index, master, isStatic, mac }) =>
        master && isStatic ? [`${index} ${mac}`] : [],
      ),
    );
    const aliased = links
      .filter((link) => link.up && link.master === bridge?.index && hasRole(link, "container"))
      .filter((link) => link.mtuBytes >= (vxlan?.mtuBytes ?? 0))
      .flatMap((link) => {
        const found = decodeAlias(link.alias);
        return found !== undefined && own.has(`${link.index} ${found.port.mac}`) ? [found] : [];
      });
    // One that is not filtered, locked, or known to the bridge is no port yet: it is put again.
    const ports = await filter.holding(await this.#withHostEnds(aliased));
    const finished = new Set(ports.map(({ endpoint }) => portLink(endpoint)));
    const begun = new Set([
      ...links.map(({ name }) => name).filter((name) => name.startsWith(PORT_LINKS)),
      ...(await filter.ports()),
    ]);
    return { ports, unfinishedPorts: [...begun].filter((link) => !finished.has(link)) };
  }

  /** One that the kernel refuses does not keep the others away. */
  async put(ports: readonly LocalPort[]): Promise<void> {
    const { namespace, host, filter } = this.#modules;
    const links = await namespace.links();
    const { bridge, vxlan } = bothDevices(links);
    const before = new Set(links.map(({ name }) => name));
    // One that is there is mended: its other end may be in a running container.
    const missingPorts = ports.filter(({ endpoint }) => !before.has(portLink(endpoint)));
    let refused: unknown;
    try {
      await this.#addVeths(missingPorts, vxlan.mtuBytes);
    } catch (error) {
      refused = error;
    }
    const after = new Map((await namespace.links()).map((link) => [link.name, link]));
    const made = ports.flatMap((port) => {
      const link = after.get(portLink(port.endpoint));
      if (link === undefined) refused ??= missing(portLink(port.endpoint));
      return link === undefined ? [] : [{ port, link }];
    });
    await filter.put(
      made.map(({ port }) => port),
      new Set(after.keys()),
    );
    for (const { port } of made)
      if (port.host !== undefined) await host.putEnd(port.endpoint, port.host, vxlan.mtuBytes);
    await namespace.socket.batch(
      made.flatMap(({ port, link }) => [
        ...(link.mtuBytes < vxlan.mtuBytes ? [route.setMtu(link.index, vxlan.mtuBytes)] : []),
        ...makePort(link.index, bridge.index, "container"),
        neighbour.putStaticFdb(link.index, port.mac),
        // Last: a port that a crash left half made has no alias, and is made anew.
        route.setAlias(link.index, encodeAlias(port)),
      ]),
    );
    if (refused !== undefined) throw refused;
  }

  async remove(ports: readonly string[]): Promise<void> {
    const { namespace, filter } = this.#modules;
    const names = new Set(ports);
    const links = await namespace.links();
    const leaving = links.filter(({ name }) => names.has(name));
    await deleteOneByOne(
      namespace.socket,
      leaving.map(({ index, name }) => route.deleteLink(index, name)),
    );
    const rest = links.map(({ name }) => name).filter((name) => !names.has(name));
    await filter.put([], new Set(rest));
  }

  async #addVeths(ports: readonly LocalPort[], mtuBytes: number): Promise<void> {
    if (ports.length === 0) return;
    const { namespace, host } = this.#modules;
    await withNetnsDescriptor(host.path, (fd) =>
      namespace.socket.batch(
        ports.map(({ endpoint, mac }) => {
          const peer = { name: containerLink(endpoint), mac, netnsFd: fd };
          return route.addVeth(portLink(endpoint), peer, mtuBytes);
        }),
      ),
    );
  }

  /** A port whose other end the host has, but down or without its addresses, is put again. */
  async #withHostEnds(ports: readonly AliasedPort[]): Promise<LocalPort[]> {
    if (!ports.some(({ onHost }) => onHost)) return ports.map(({ port }) => port);
    const ends = await this.#modules.host.ends();
    return ports.flatMap(({ port, onHost }) => {
      if (!onHost) return [port];
      const host = ends(port.endpoint);
      return host === undefined ? [] : [{ ...port, host }];
    });
  }
}
