import type { EndpointId, NetworkId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import type { Mac } from "../../shared/mac.ts";
import { OverlayError } from "../../shared/errors.ts";
import {
  type ActualNetwork,
  type LocalPort,
  portLink,
  type Step,
} from "../../agent/core/data-plane/kernel-state.ts";
import { containerLink } from "../../agent/kernel/container-link.ts";
import type { Kernel } from "../../agent/kernel/port.ts";

interface FakeNetwork {
  device: ActualNetwork["device"];
  faults: readonly string[];
  /** By link. */
  readonly ports: Map<string, LocalPort>;
  readonly unfinishedPorts: Set<string>;
  readonly vxlanFdb: Map<Mac, Ip>;
  readonly bridgeFdb: Set<Mac>;
  readonly neighbours: Map<Ip, Mac>;
  readonly flood: Set<Ip>;
}

/** The data plane in memory: the fast twin of the kernel in tests and in the simulation. */
export class FakeKernel implements Kernel {
  readonly #networks = new Map<NetworkId, FakeNetwork>();
  readonly #stranded = new Set<string>();
  readonly #listeners: ((network: NetworkId) => void)[] = [];

  list(): Promise<NetworkId[]> {
    return Promise.resolve(this.listNow());
  }

  listNow(): NetworkId[] {
    return [...this.#networks.keys()].toSorted();
  }

  read(network: NetworkId): Promise<ActualNetwork> {
    return Promise.resolve(this.readNow(network));
  }

  /** Without a promise, for the simulation's virtual clock. */
  readNow(network: NetworkId): ActualNetwork {
    const held = this.#networks.get(network);
    return {
      network,
      present: held !== undefined,
      device: held?.device,
      faults: held?.faults ?? [],
      ports: [...(held?.ports.values() ?? [])],
      unfinishedPorts: [...(held?.unfinishedPorts ?? [])],
      vxlanFdb: [...(held?.vxlanFdb ?? [])].map(([mac, vtep]) => ({ mac, vtep })),
      bridgeFdb: [...(held?.bridgeFdb ?? [])],
      neighbours: [...(held?.neighbours ?? [])].map(([ip, mac]) => ({ ip, mac })),
      flood: [...(held?.flood ?? [])],
    };
  }

  async apply(network: NetworkId, steps: readonly Step[]): Promise<void> {
    this.applyNow(network, steps);
  }

  applyNow(network: NetworkId, steps: readonly Step[]): void {
    for (const step of steps) this.#step(network, step);
  }

  containerLink(endpoint: EndpointId): string {
    return containerLink(endpoint);
  }

  endsHere(): Promise<ReadonlySet<string>> {
    return Promise.resolve(this.#stranded);
  }

  giveBackEnd(endpoint: EndpointId): Promise<void> {
    this.#stranded.delete(containerLink(endpoint));
    return Promise.resolve();
  }

  /** As when somebody deletes a container's port: it is made again, and its other end is the host's. */
  strand(endpoint: EndpointId): void {
    this.#stranded.add(containerLink(endpoint));
  }

  onChange(listener: (network: NetworkId) => void): void {
    this.#listeners.push(listener);
  }

  /** As when someone runs `ip link set br0 down; ip link set br0 up`: the kernel drops neighbours. */
  loseNeighbours(network: NetworkId): void {
    this.#networks.get(network)?.neighbours.clear();
    for (const listener of this.#listeners) listener(network);
  }

  /** As when somebody changes a setting in the network's namespace: only `extend` makes it as it was. */
  spoil(network: NetworkId): void {
    this.#extended(network).faults = ["its setting is another"];
  }

  /** As when an agent dies while it makes a port. */
  leaveUnfinished(network: NetworkId, endpoint: EndpointId): void {
    this.#extended(network).ports.delete(portLink(endpoint));
    this.#extended(network).unfinishedPorts.add(portLink(endpoint));
  }

  recheck(): void {}

  close(): Promise<void> {
    return Promise.resolve();
  }

  #step(network: NetworkId, step: Step): void {
    switch (step.kind) {
      case "extend": {
        const { vni, udpPort, localVtep, mtuBytes, gateways, multicast } = step.desired;
        this.#networks.set(network, {
          ports: new Map(),
          unfinishedPorts: new Set(),
          vxlanFdb: new Map(),
          bridgeFdb: new Set(),
          neighbours: new Map(),
          flood: new Set(),
          ...this.#networks.get(network),
          faults: [],
          device: { vni, udpPort, localVtep, mtuBytes, gateways, multicast },
        });
        return;
      }
      case "retract":
        this.#networks.delete(network);
        return;
      case "putRemotes": {
        const held = this.#extended(network);
        for (const { mac, vtep, ips } of step.remotes) {
          held.vxlanFdb.set(mac, vtep);
          held.bridgeFdb.add(mac);
          for (const ip of ips) held.neighbours.set(ip, mac);
        }
        return;
      }
      case "removeFdb":
        for (const { mac } of step.entries) {
          this.#extended(network).vxlanFdb.delete(mac);
          this.#extended(network).bridgeFdb.delete(mac);
        }
        return;
      case "removeNeighbours":
        for (const ip of step.ips) this.#extended(network).neighbours.delete(ip);
        return;
      case "putFlood":
        for (const vtep of step.vteps) this.#extended(network).flood.add(vtep);
        return;
      case "removeFlood":
        for (const vtep of step.vteps) this.#extended(network).flood.delete(vtep);
        return;
      case "putPort":
        this.#extended(network).ports.set(portLink(step.port.endpoint), step.port);
        this.#extended(network).unfinishedPorts.delete(portLink(step.port.endpoint));
        return;
      case "removePort":
        this.#networks.get(network)?.ports.delete(step.link);
        this.#networks.get(network)?.unfinishedPorts.delete(step.link);
    }
  }

  #extended(network: NetworkId): FakeNetwork {
    const held = this.#networks.get(network);
    if (held?.device === undefined)
      throw new OverlayError({
        code: "NETLINK",
        errno: "ENODEV",
        op: "lookup",
        message: `network ${network} has no device`,
      });
    return held;
  }
}
