import { closeSync, existsSync, openSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { SecurityClass } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import { EndpointId, NetworkId, Vni } from "../../shared/ids.ts";
import { Ip } from "../../shared/ip.ts";
import { Mac, ruleMac } from "../../shared/mac.ts";
import {
  type ActualNetwork,
  type DesiredNetwork,
  type InterfaceAddress,
  type LocalPort,
  PORT_LINKS,
  portLink,
  type RemoteEntry,
  type Step,
} from "../core/data-plane.ts";
import * as route from "./netlink/route.ts";
import { type Request, RtNetlink } from "./netlink/socket.ts";
import {
  createPinnedNetns,
  deletePinnedNetns,
  inNetns,
  isPinnedNetns,
  setNetSettings,
  transportNetns,
} from "./netns.ts";
import type { Kernel } from "./port.ts";
import { PortFilter } from "./port-filter.ts";
import { Watch } from "./watch.ts";

export interface LinuxKernelOptions {
  /** Where namespaces are pinned; /run/overlay-ts/netns in service. */
  readonly netnsDirectory: string;
  /** The host's namespace; our own in service, a test's host otherwise. */
  readonly hostNetns?: string;
}

const BRIDGE = "br0";
const VXLAN = "vx0";
const ALIAS = "overlay-ts";
const PORTS_AT_ONCE = 64;

/** The data plane of this host over rtnetlink, see README.md in this folder. */
export class LinuxKernel implements Kernel {
  readonly #options: LinuxKernelOptions;
  readonly #host: RtNetlink;
  readonly #sockets = new Map<NetworkId, RtNetlink>();
  readonly #filter = new PortFilter((network) => this.#path(network));
  readonly #watches = new Map<NetworkId, Watch>();
  readonly #listeners: ((network: NetworkId) => void)[] = [];

  constructor(options: LinuxKernelOptions) {
    this.#options = options;
    this.#host = new RtNetlink(options.hostNetns);
  }

  list(): Promise<NetworkId[]> {
    const { netnsDirectory } = this.#options;
    const names = existsSync(netnsDirectory) ? readdirSync(netnsDirectory) : [];
    const found = names.map((name) => NetworkId.safeParse(name));
    return Promise.resolve(found.flatMap((id) => (id.success ? [id.data] : [])).toSorted());
  }

  async read(network: NetworkId): Promise<ActualNetwork> {
    if (!this.#exists(network)) {
      const none = {
        device: undefined,
        ports: [],
        unfinishedPorts: [],
        vxlanFdb: [],
        bridgeFdb: [],
        neighbours: [],
        flood: [],
      };
      // A plain file where a namespace should be pinned: a crash between the two.
      return { network, present: existsSync(this.#path(network)), ...none };
    }
    const socket = this.#socket(network);
    const links = await this.#links(network);
    const bridge = links.find((link) => link.name === BRIDGE);
    const vxlan = links.find((link) => link.name === VXLAN);
    const fdb = (await socket.dump(route.dumpNeighbours("bridge"))).map(route.decodeNeighbour);
    const neighbours = [
      ...(await socket.dump(route.dumpNeighbours(4))),
      ...(await socket.dump(route.dumpNeighbours(6))),
    ].map(route.decodeNeighbour);
    const addresses = await addressesOn(socket);
    // A port whose frames are not filtered is no port yet: it is put again.
    const ports = await this.#filter.holding(
      network,
      await this.#withHostEnds(
        links
          .filter((link) => link.up && link.master === bridge?.index)
          .flatMap((link) => decodeAlias(link.alias) ?? []),
      ),
    );
    const finished = new Set(ports.map(({ endpoint }) => portLink(endpoint)));
    const begun = new Set([
      ...links.map(({ name }) => name).filter((name) => name.startsWith(PORT_LINKS)),
      ...(await this.#filter.ports(network)),
    ]);
    const working =
      bridge?.up === true &&
      vxlan?.up === true &&
      vxlan.vxlan !== undefined &&
      vxlan.master === bridge.index;
    return {
      network,
      present: true,
      device: working
        ? {
            vni: Vni.parse(vxlan.vxlan?.vni),
            udpPort: vxlan.vxlan?.udpPort ?? 0,
            localVtep: Ip.parse(vxlan.vxlan?.localVtep),
            mtuBytes: vxlan.mtuBytes,
            multicast: vxlan.multicastFlood,
            gateways: addresses(bridge.index),
          }
        : undefined,
      ports,
      unfinishedPorts: [...begun].filter((link) => !finished.has(link)),
      vxlanFdb: fdb.flatMap(({ index, extLearned, master, mac, destination }) =>
        index === vxlan?.index &&
        extLearned &&
        !master &&
        mac !== undefined &&
        destination !== undefined
          ? [{ mac, vtep: destination }]
          : [],
      ),
      bridgeFdb: fdb.flatMap(({ index, extLearned, master, mac }) =>
        index === vxlan?.index && extLearned && master && mac !== undefined ? [mac] : [],
      ),
      neighbours: neighbours.flatMap(({ index, extLearned, mac, destination }) =>
        index === bridge?.index && extLearned && mac !== undefined && destination !== undefined
          ? [{ ip: destination, mac }]
          : [],
      ),
      flood: fdb.flatMap(({ index, extLearned, master, flood, destination }) =>
        index === vxlan?.index && extLearned && !master && flood && destination !== undefined
          ? [destination]
          : [],
      ),
    };
  }

  async apply(network: NetworkId, steps: readonly Step[]): Promise<void> {
    const watch = this.#watches.get(network);
    watch?.pause();
    try {
      for (const group of inGroups(steps)) await this.#steps(network, group);
    } finally {
      watch?.resume();
    }
  }

  onChange(listener: (network: NetworkId) => void): void {
    this.#listeners.push(listener);
  }

  containerLink(endpoint: EndpointId): string {
    return `ovc${endpoint.slice(0, 12)}`;
  }

  /** The filters of all networks are read again with the next pass: somebody may have changed them. */
  recheck(): void {
    for (const network of this.#sockets.keys()) this.#filter.forget(network);
  }

  /** Closes sockets; namespaces and devices go on forwarding. */
  close(): Promise<void> {
    this.#host.close();
    for (const socket of this.#sockets.values()) socket.close();
    for (const watch of this.#watches.values()) watch.close();
    this.#sockets.clear();
    this.#watches.clear();
    return Promise.resolve();
  }

  /** All of one kind. */
  async #steps(network: NetworkId, steps: readonly Step[]): Promise<void> {
    const puts = steps.flatMap((step) => (step.kind === "putPort" ? [step.port] : []));
    const removals = steps.flatMap((step) => (step.kind === "removePort" ? [step.link] : []));
    if (puts.length > 0) return this.#putPorts(network, puts);
    if (removals.length > 0) return this.#removePorts(network, removals);
    for (const step of steps) await this.#step(network, step);
  }

  async #step(network: NetworkId, step: Step): Promise<void> {
    switch (step.kind) {
      case "extend":
        return this.#extend(network, step.desired);
      case "putRemotes":
        return this.#putRemotes(network, step.remotes);
      case "removeFdb": {
        const { vxlan } = await this.#devices(network);
        const halves = step.entries.flatMap(({ mac }) => [
          route.deleteFdb(vxlan.index, mac, "self"),
          route.deleteFdb(vxlan.index, mac, "master"),
        ]);
        return this.#entriesGone(network, halves);
      }
      case "removeNeighbours": {
        const { bridge } = await this.#devices(network);
        return this.#entriesGone(
          network,
          step.ips.map((ip) => route.deleteNeighbour(bridge.index, ip)),
        );
      }
      case "putFlood": {
        const { vxlan } = await this.#devices(network);
        return this.#socket(network).batch(
          step.vteps.map((vtep) => route.putFlood(vxlan.index, vtep)),
        );
      }
      case "removeFlood": {
        const { vxlan } = await this.#devices(network);
        return this.#entriesGone(
          network,
          step.vteps.map((vtep) => route.deleteFlood(vxlan.index, vtep)),
        );
      }
      case "putPort":
        return this.#putPorts(network, [step.port]);
      case "removePort":
        return this.#removePorts(network, [step.link]);
      case "retract":
        return this.#retract(network);
    }
  }

  async #extend(network: NetworkId, desired: DesiredNetwork): Promise<void> {
    const path = this.#path(network);
    const [gateway] = desired.gateways;
    if (gateway === undefined)
      throw new OverlayError({ code: "INVALID", message: `network ${network} has no gateway` });
    if (!this.#exists(network)) {
      this.#forget(network);
      createPinnedNetns(path);
    }
    quieten(path);
    const socket = this.#socket(network);
    const links = await this.#links(network);
    if (!links.some(({ name }) => name === BRIDGE))
      await socket.request(route.addBridge(BRIDGE, ruleMac(gateway.ip), desired.mtuBytes));
    await this.#mendVxlan(network, desired, links);
    const { bridge, vxlan } = await this.#devices(network);
    await this.#filter.extend(network);
    await socket.batch([
      route.setUp(bridge.index, desired.mtuBytes),
      ...route.makePort(vxlan.index, bridge.index, desired.multicast ? "vxlanFlood" : "vxlan"),
      ...desired.gateways.map(({ ip, prefixLength }) =>
        route.addAddress(bridge.index, ip, prefixLength),
      ),
    ]);
  }

  /** Number, port and VTEP cannot be changed on a device: it alone is made anew, the ports stay. */
  async #mendVxlan(
    network: NetworkId,
    desired: DesiredNetwork,
    links: readonly route.Link[],
  ): Promise<void> {
    const socket = this.#socket(network);
    const held = links.find(({ name }) => name === VXLAN);
    if (held !== undefined) {
      const { vni, udpPort, localVtep } = held.vxlan ?? {};
      const same =
        vni === desired.vni && udpPort === desired.udpPort && localVtep === desired.localVtep;
      if (same) return socket.request(route.setUp(held.index, desired.mtuBytes));
      await socket.request(route.deleteLink(held.index, VXLAN));
    }
    await this.#onUnderlay(desired.encryption, async (socket) => {
      const fd = openSync(this.#path(network), "r");
      try {
        await socket.request(route.addVxlan(VXLAN, desired, ruleMac(desired.localVtep), fd));
      } finally {
        closeSync(fd);
      }
    });
  }

  /** A VXLAN socket stays where its device is made: of WireGuard's class there is nothing in clear. */
  async #onUnderlay(
    encryption: SecurityClass,
    work: (socket: RtNetlink) => Promise<void>,
  ): Promise<void> {
    if (encryption !== "wireguard") return work(this.#host);
    const path = transportNetns(this.#options.netnsDirectory);
    if (!isPinnedNetns(path)) throw missing("the namespace of WireGuard");
    // Opened each time: the namespace may be another one by now.
    const socket = new RtNetlink(path);
    try {
      await work(socket);
    } finally {
      socket.close();
    }
  }

  async #putRemotes(network: NetworkId, remotes: readonly RemoteEntry[]): Promise<void> {
    const { bridge, vxlan } = await this.#devices(network);
    await this.#socket(network).batch(
      remotes.flatMap(({ mac, vtep, ips }) => [
        route.putFdb(vxlan.index, mac, vtep),
        ...ips.map((ip) => route.putNeighbour(bridge.index, ip, mac)),
      ]),
    );
  }

  /** One that the kernel refuses does not keep the others away. */
  async #putPorts(network: NetworkId, ports: readonly LocalPort[]): Promise<void> {
    const { bridge, vxlan, links } = await this.#devices(network);
    const socket = this.#socket(network);
    const before = new Set(links.map(({ name }) => name));
    // One that is there is mended: its other end may be in a running container.
    const missingPorts = ports.filter(({ endpoint }) => !before.has(portLink(endpoint)));
    let refused = await failureOf(this.#addVeths(network, missingPorts, vxlan.mtuBytes));
    const after = new Map((await this.#links(network)).map((link) => [link.name, link]));
    const made = ports.flatMap((port) => {
      const link = after.get(portLink(port.endpoint));
      if (link === undefined) refused ??= missing(portLink(port.endpoint));
      return link === undefined ? [] : [{ port, link }];
    });
    await this.#filter.put(
      network,
      made.map(({ port }) => port),
      new Set(after.keys()),
    );
    for (const { port } of made)
      if (port.host !== undefined) await this.#putHostEnd(port.endpoint, port.host, vxlan.mtuBytes);
    await socket.batch(
      made.flatMap(({ port, link }) => [
        ...route.makePort(link.index, bridge.index, "container"),
        route.putStaticFdb(link.index, port.mac),
        // Last: a port that a crash left half made has no alias, and is made anew.
        route.setAlias(link.index, encodeAlias(port)),
      ]),
    );
    if (refused !== undefined) throw refused;
  }

  async #addVeths(
    network: NetworkId,
    ports: readonly LocalPort[],
    mtuBytes: number,
  ): Promise<void> {
    if (ports.length === 0) return;
    const fd = inNetns(this.#options.hostNetns, () => openSync("/proc/thread-self/ns/net", "r"));
    try {
      await this.#socket(network).batch(
        ports.map(({ endpoint, mac }) => {
          const peer = { name: this.containerLink(endpoint), mac, netnsFd: fd };
          return route.addVeth(portLink(endpoint), peer, mtuBytes);
        }),
      );
    } finally {
      closeSync(fd);
    }
  }

  async #putHostEnd(
    endpoint: EndpointId,
    addresses: readonly InterfaceAddress[],
    mtuBytes: number,
  ): Promise<void> {
    const name = this.containerLink(endpoint);
    const links = (await this.#host.dump(route.dumpLinks)).map(route.decodeLink);
    const link = links.find((candidate) => candidate.name === name);
    if (link === undefined) throw missing(name);
    await this.#host.batch([
      route.setUp(link.index, mtuBytes),
      ...addresses.map(({ ip, prefixLength }) => route.addAddress(link.index, ip, prefixLength)),
    ]);
  }

  /** A port whose other end the host has, but down or without its addresses, is put again. */
  async #withHostEnds(ports: readonly AliasedPort[]): Promise<LocalPort[]> {
    if (!ports.some(({ onHost }) => onHost)) return ports.map(({ port }) => port);
    const links = (await this.#host.dump(route.dumpLinks)).map(route.decodeLink);
    const addresses = await addressesOn(this.#host);
    return ports.flatMap(({ port, onHost }) => {
      if (!onHost) return [port];
      const name = this.containerLink(port.endpoint);
      const link = links.find((candidate) => candidate.name === name && candidate.up);
      return link === undefined ? [] : [{ ...port, host: addresses(link.index) }];
    });
  }

  async #removePorts(network: NetworkId, ports: readonly string[]): Promise<void> {
    const names = new Set(ports);
    const links = await this.#links(network);
    await this.#gone(
      network,
      links
        .filter(({ name }) => names.has(name))
        .map(({ index, name }) => route.deleteLink(index, name)),
    );
    const rest = links.map(({ name }) => name).filter((name) => !names.has(name));
    await this.#filter.put(network, [], new Set(rest));
  }

  async #retract(network: NetworkId): Promise<void> {
    if (this.#exists(network))
      // A container's end lives in another namespace and would outlast this one until its peer goes.
      for (const link of await this.#links(network))
        if (link.name !== "lo")
          await this.#gone(network, [route.deleteLink(link.index, link.name)]);
    this.#forget(network);
    deletePinnedNetns(this.#path(network));
  }

  /** Sockets belong to a namespace, not to its path: with another one there they are of no use. */
  #forget(network: NetworkId): void {
    this.#sockets.get(network)?.close();
    this.#sockets.delete(network);
    this.#watches.get(network)?.close();
    this.#watches.delete(network);
    this.#filter.forget(network);
  }

  /** Entries at once, the kernel needs some microseconds for each; a link it needs milliseconds for. */
  async #entriesGone(network: NetworkId, requests: readonly Request[]): Promise<void> {
    if ((await failureOf(this.#socket(network).batch(requests))) === undefined) return;
    // A batch tells its first failure only, and that may be one that is as wanted.
    await this.#gone(network, requests);
  }

  /** Deletions: what is gone already is as wanted. */
  async #gone(network: NetworkId, requests: readonly Request[]): Promise<void> {
    for (const request of requests)
      try {
        await this.#socket(network).request(request);
      } catch (error) {
        const already =
          error instanceof OverlayError && ["ENOENT", "ENODEV"].includes(error.errno ?? "");
        if (!already) throw error;
      }
  }

  async #links(network: NetworkId): Promise<route.Link[]> {
    return (await this.#socket(network).dump(route.dumpLinks)).map(route.decodeLink);
  }

  async #devices(
    network: NetworkId,
  ): Promise<{ bridge: route.Link; vxlan: route.Link; links: readonly route.Link[] }> {
    if (!this.#exists(network)) throw missing(`network ${network}`);
    const links = await this.#links(network);
    const bridge = links.find((link) => link.name === BRIDGE);
    const vxlan = links.find((link) => link.name === VXLAN);
    if (bridge === undefined || vxlan === undefined)
      throw missing(bridge === undefined ? BRIDGE : VXLAN);
    return { bridge, vxlan, links };
  }

  /** @throws NETLINK ENODEV when the network has no namespace here. */
  #socket(network: NetworkId): RtNetlink {
    if (!this.#exists(network)) throw missing(`network ${network}`);
    let socket = this.#sockets.get(network);
    if (socket === undefined) {
      this.#sockets.set(network, (socket = new RtNetlink(this.#path(network))));
      const watch = new Watch(this.#path(network), () => {
        for (const listener of this.#listeners) listener(network);
      });
      this.#watches.set(network, watch);
    }
    return socket;
  }

  #path(network: NetworkId): string {
    return join(this.#options.netnsDirectory, network);
  }

  #exists(network: NetworkId): boolean {
    return isPinnedNetns(this.#path(network));
  }
}

/**
 * Neighbours of one kind that are done together; so few that the kernel, which carries out a send at
 * once, does not keep this thread for long.
 */
function inGroups(steps: readonly Step[]): Step[][] {
  const groups: Step[][] = [];
  for (const step of steps) {
    const last = groups.at(-1);
    if (last !== undefined && last[0]?.kind === step.kind && last.length < PORTS_AT_ONCE)
      last.push(step);
    else groups.push([step]);
  }
  return groups;
}

function failureOf(work: Promise<void>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error ?? new Error("failed"),
  );
}

/** Of each link, without the link-local ones that it gives itself. */
async function addressesOn(socket: RtNetlink): Promise<(link: number) => InterfaceAddress[]> {
  const all = (await socket.dump(route.dumpAddresses)).flatMap(
    (message) => route.decodeAddress(message) ?? [],
  );
  return (link) =>
    all
      .filter(({ index, ip }) => index === link && !ip.startsWith("fe80:"))
      .map(({ ip, prefixLength }) => ({ ip, prefixLength }));
}

interface AliasedPort {
  readonly port: LocalPort;
  readonly onHost: boolean;
}

const ON_HOST = "host";

/** A port says in the kernel whose it is, so that a restarted agent needs no memory to know it. */
function encodeAlias({ endpoint, mac, ips, host }: LocalPort): string {
  return [ALIAS, endpoint, mac, ...ips, ...(host === undefined ? [] : [ON_HOST])].join(" ");
}

function decodeAlias(alias: string): AliasedPort | undefined {
  const [mark, endpoint, mac, ...rest] = alias.split(" ");
  const port = { endpoint: EndpointId.safeParse(endpoint), mac: Mac.safeParse(mac) };
  if (mark !== ALIAS || !port.endpoint.success || !port.mac.success) return undefined;
  const addresses = rest.map((ip) => Ip.safeParse(ip));
  return {
    port: {
      endpoint: port.endpoint.data,
      mac: port.mac.data,
      ips: addresses.flatMap((ip) => (ip.success ? [ip.data] : [])),
    },
    onHost: rest.at(-1) === ON_HOST,
  };
}

/** A new namespace takes router advertisements and may forward [kernel defaults]: ours must not. */
function quieten(path: string): void {
  setNetSettings(path, [
    ["ipv4/ip_forward", "0"],
    ["ipv6/conf/all/forwarding", "0"],
    ["ipv6/conf/all/accept_ra", "0"],
    // As IPv4's: a bridge set down and up still has its gateway address.
    ["ipv6/conf/all/keep_addr_on_down", "1"],
    ["ipv6/conf/default/accept_ra", "0"],
    ["ipv6/conf/default/addr_gen_mode", "1"],
    ["bridge/bridge-nf-call-iptables", "0"],
    ["bridge/bridge-nf-call-ip6tables", "0"],
    ["bridge/bridge-nf-call-arptables", "0"],
  ]);
}

function missing(what: string): OverlayError {
  return new OverlayError({
    code: "NETLINK",
    op: "lookup",
    errno: "ENODEV",
    message: `${what} is not there`,
  });
}
