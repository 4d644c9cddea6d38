import type { NetworkId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import type { Mac } from "../../../shared/mac.ts";
import {
  type ActualNetwork,
  type DesiredNetwork,
  type DeviceShape,
  type InterfaceAddress,
  type LocalPort,
  portLink,
  type RemoteEntry,
  type RemoteGroup,
  type Step,
  type Wanted,
} from "./kernel-state.ts";
import { transitKey } from "./transit.ts";

/** A network of which the kernel has nothing. */
export function nothingOf(network: NetworkId): ActualNetwork {
  return {
    network,
    present: false,
    device: undefined,
    faults: [],
    ports: [],
    unfinishedPorts: [],
    vxlanFdb: [],
    bridgeFdb: [],
    neighbours: [],
    flood: [],
  };
}

/** What it holds exactly: these, and no others. Undefined: that is not known. */
export interface Agreed {
  readonly ports?: readonly LocalPort[];
  readonly remotes?: readonly RemoteGroup[];
}

/**
 * What the kernel holds of one network: as it was read, and as each step that was carried out since has left it.
 * So long as nobody else writes there, what a change needs is planned without a dump. That a step does here what
 * it does in a kernel is what the kernels' contract says (test/contract): the tests' kernel is made of these.
 */
export class HeldNetwork {
  readonly network: NetworkId;
  present: boolean;
  device: DeviceShape | undefined;
  faults: readonly string[];
  /** By link. */
  readonly ports: Map<string, LocalPort>;
  readonly unfinishedPorts: Set<string>;
  readonly vxlanFdb: Map<Mac, Ip>;
  readonly bridgeFdb: Set<Mac>;
  readonly neighbours: Map<Ip, Mac>;
  readonly flood: Set<Ip>;
  #agreed: Agreed = {};

  constructor(actual: ActualNetwork) {
    this.network = actual.network;
    this.present = actual.present;
    this.device = actual.device;
    this.faults = actual.faults;
    this.ports = new Map(actual.ports.map((port) => [portLink(port.endpoint), port]));
    this.unfinishedPorts = new Set(actual.unfinishedPorts);
    this.vxlanFdb = new Map(actual.vxlanFdb.map(({ mac, vtep }) => [mac, vtep]));
    this.bridgeFdb = new Set(actual.bridgeFdb);
    this.neighbours = new Map(actual.neighbours.map(({ ip, mac }) => [ip, mac]));
    this.flood = new Set(actual.flood);
  }

  /** What need not be looked for one by one. */
  get agreed(): Agreed {
    return this.#agreed;
  }

  /** Each of its three records is here. */
  has({ mac, vtep, ips }: RemoteEntry): boolean {
    return (
      this.vxlanFdb.get(mac) === vtep &&
      this.bridgeFdb.has(mac) &&
      ips.every((ip) => this.neighbours.get(ip) === mac)
    );
  }

  /** All steps of a plan were carried out: what was wanted is here, and no other remote if that was to go. */
  reached(wanted: Wanted): void {
    if (wanted.kind !== "present") return;
    const { ports, remotes } = wanted.desired;
    this.#agreed = wanted.prune ? { ports, remotes } : { ports };
  }

  /** Of a step that the kernel has carried out. */
  carriedOut(step: Step): void {
    this.#agreed = {};
    switch (step.kind) {
      case "extend":
        this.present = true;
        this.device = shapeOf(step.desired);
        this.faults = [];
        return;
      case "retract":
        this.#clear();
        return;
      case "putRemotes":
        for (const { mac, vtep, ips } of step.remotes) {
          this.vxlanFdb.set(mac, vtep);
          this.bridgeFdb.add(mac);
          for (const ip of ips) this.neighbours.set(ip, mac);
        }
        return;
      case "removeFdb":
        for (const { mac } of step.entries) {
          this.vxlanFdb.delete(mac);
          this.bridgeFdb.delete(mac);
        }
        return;
      case "removeNeighbours":
        for (const ip of step.ips) this.neighbours.delete(ip);
        return;
      case "putFlood":
        for (const vtep of step.vteps) this.flood.add(vtep);
        return;
      case "removeFlood":
        for (const vtep of step.vteps) this.flood.delete(vtep);
        return;
      case "putPort":
        this.ports.set(portLink(step.port.endpoint), step.port);
        this.unfinishedPorts.delete(portLink(step.port.endpoint));
        return;
      case "removePort":
        this.ports.delete(step.link);
        this.unfinishedPorts.delete(step.link);
    }
  }

  asRead(): ActualNetwork {
    return {
      network: this.network,
      present: this.present,
      device: this.device,
      faults: this.faults,
      ports: [...this.ports.values()],
      unfinishedPorts: [...this.unfinishedPorts],
      vxlanFdb: [...this.vxlanFdb].map(([mac, vtep]) => ({ mac, vtep })),
      bridgeFdb: [...this.bridgeFdb],
      neighbours: [...this.neighbours].map(([ip, mac]) => ({ ip, mac })),
      flood: [...this.flood],
    };
  }

  #clear(): void {
    this.present = false;
    this.device = undefined;
    this.faults = [];
    for (const held of [
      this.ports,
      this.unfinishedPorts,
      this.vxlanFdb,
      this.bridgeFdb,
      this.neighbours,
      this.flood,
    ])
      held.clear();
  }
}

function shapeOf(desired: DesiredNetwork): DeviceShape {
  const { vni, udpPort, localVtep, mtuBytes, gateways, multicast, transit } = desired;
  return { vni, udpPort, localVtep, mtuBytes, gateways, multicast, transit };
}

export function sameShape(a: DeviceShape, b: DeviceShape): boolean {
  return shapeKey(a) === shapeKey(b);
}

export function samePort(a: LocalPort, b: LocalPort): boolean {
  return portKey(a) === portKey(b);
}

/**
 * Where a kernel that was believed to hold `believed` and was found to hold `found` is another than it was left:
 * names of what differs, for the log. Empty: nobody else has written there.
 */
export function driftOf(believed: HeldNetwork, found: HeldNetwork): string[] {
  const told: Record<string, (held: HeldNetwork) => Iterable<string>> = {
    namespace: ({ present }) => [String(present)],
    devices: ({ device }) => (device === undefined ? [] : [shapeKey(device)]),
    settings: ({ faults }) => faults,
    ports: ({ ports }) => [...ports.values()].map(portKey),
    "unfinished ports": ({ unfinishedPorts }) => unfinishedPorts,
    "VXLAN FDB": ({ vxlanFdb }) => [...vxlanFdb].map(String),
    "bridge FDB": ({ bridgeFdb }) => bridgeFdb,
    neighbours: ({ neighbours }) => [...neighbours].map(String),
    flood: ({ flood }) => flood,
  };
  return Object.entries(told).flatMap(([what, of]) =>
    sameMembers(new Set(of(believed)), new Set(of(found))) ? [] : [what],
  );
}

function sameMembers(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && [...a].every((member) => b.has(member));
}

function shapeKey(shape: DeviceShape): string {
  const { vni, udpPort, localVtep, mtuBytes, gateways, multicast, transit } = shape;
  const device = [vni, udpPort, localVtep, mtuBytes, multicast, addressKey(gateways)];
  return [...device, transitKey(transit)].join(" ");
}

function portKey({ endpoint, mac, ips, host }: LocalPort): string {
  return [endpoint, mac, ips.toSorted().join(), addressKey(host)].join(" ");
}

function addressKey(addresses: readonly InterfaceAddress[] = []): string {
  return addresses
    .map(({ ip, prefixLength }) => `${ip}/${prefixLength}`)
    .toSorted()
    .join();
}
