import type { NetworkId } from "../../shared/ids.ts";
import type { Mac } from "../../shared/mac.ts";
import type {
  ActualNetwork,
  DesiredNetwork,
  DeviceShape,
} from "../core/data-plane/kernel-state.ts";
import { ContainerPorts } from "./container-ports.ts";
import * as entries from "./forwarding-entries.ts";
import type { HostNamespace } from "./host-namespace.ts";
import { deleteAtOnce, deleteOneByOne } from "./netlink/deletions.ts";
import { addressesOf, neighboursOf } from "./netlink/dumps.ts";
import { deleteLink, type Link } from "./netlink/route.ts";
import {
  bothDevices,
  deviceFaults,
  devicesAmong,
  type FoundDevices,
  joinDevices,
  makeDevices,
  type NetworkDevices,
  shapeOf,
} from "./network-devices.ts";
import { type NetworkNamespace, noiseOf } from "./network-namespace.ts";
import { NetworkRouting } from "./network-routing.ts";
import { withPortNamed } from "./port-holder.ts";
import { PortFilter } from "./nft/port-filter.ts";
import type { Batch } from "./step-batches.ts";

/** One network in the kernel, as long as its namespace is the same: devices, entries, ports. */
export class LinuxNetwork {
  readonly namespace: NetworkNamespace;
  readonly #network: NetworkId;
  readonly #host: HostNamespace;
  readonly #filter: PortFilter;
  readonly #ports: ContainerPorts;
  readonly #routing: NetworkRouting;

  constructor(network: NetworkId, namespace: NetworkNamespace, host: HostNamespace) {
    this.#network = network;
    this.namespace = namespace;
    this.#host = host;
    this.#filter = new PortFilter(namespace.path);
    this.#ports = new ContainerPorts({ namespace, host, filter: this.#filter });
    this.#routing = new NetworkRouting(namespace, host);
  }

  async read(): Promise<ActualNetwork> {
    const { socket } = this.namespace;
    const links = await this.namespace.links();
    const devices = devicesAmong(links);
    const fdb = await neighboursOf(socket, "bridge");
    const neighbours = [...(await neighboursOf(socket, 4)), ...(await neighboursOf(socket, 6))];
    const addressesAt = await addressesOf(socket);
    const bare = shapeOf(devices, addressesAt);
    const device = bare && { ...bare, transit: await this.#routing.read(links, addressesAt) };
    return {
      network: this.#network,
      present: true,
      device,
      faults: device === undefined ? [] : await this.#faults(links, devices, device),
      ...entries.entriesAmong(devices, fdb, neighbours),
      ...(await this.#ports.read(links, devices, fdb)),
    };
  }

  async #faults(
    links: readonly Link[],
    devices: FoundDevices,
    device: DeviceShape,
  ): Promise<string[]> {
    const { bridge } = devices;
    if (bridge === undefined) return [];
    return [
      ...noiseOf(this.namespace.path),
      ...deviceFaults(devices, device.gateways[0]),
      ...(await this.#routing.faults(links, bridge.index, device)),
      ...(await this.#filter.faults()),
    ];
  }

  /** Devices, made or mended in place; `mac` is the bridge's. */
  async extend(desired: DesiredNetwork, mac: Mac): Promise<void> {
    const devices = await makeDevices(this.namespace, this.#host, desired, mac);
    await this.#filter.extend();
    const { socket } = this.namespace;
    const { index } = devices.bridge;
    const addresses = (await addressesOf(socket))(index);
    await socket.batch(joinDevices(devices, desired, mac, addresses)).catch((error: unknown) => {
      throw withPortNamed(error, desired.udpPort);
    });
    await this.#routing.put(desired, index);
  }

  /** What needs the devices. */
  async carryOut(batch: Exclude<Batch, { kind: "extend" | "retract" }>): Promise<void> {
    switch (batch.kind) {
      case "putRemotes": {
        const requests = entries.putRemotes(await this.#devices(), batch.remotes);
        return this.namespace.socket.batch(requests);
      }
      case "removeFdb": {
        const macs = batch.entries.map(({ mac }) => mac);
        const requests = entries.removeFdb(await this.#devices(), macs);
        return deleteAtOnce(this.namespace.socket, requests);
      }
      case "removeNeighbours": {
        const requests = entries.removeNeighbours(await this.#devices(), batch.ips);
        return deleteAtOnce(this.namespace.socket, requests);
      }
      case "putFlood": {
        const requests = entries.putFlood(await this.#devices(), batch.vteps);
        return this.namespace.socket.batch(requests);
      }
      case "removeFlood": {
        const requests = entries.removeFlood(await this.#devices(), batch.vteps);
        return deleteAtOnce(this.namespace.socket, requests);
      }
      case "putPorts":
        return this.#ports.put(batch.ports);
      case "removePorts":
        return this.#ports.remove(batch.links);
    }
  }

  /** A container's end lives in another namespace and would outlast this one until its peer goes. */
  async empty(): Promise<void> {
    const links = (await this.namespace.links()).filter(({ name }) => name !== "lo");
    await deleteOneByOne(
      this.namespace.socket,
      links.map(({ index, name }) => deleteLink(index, name)),
    );
  }

  /** The filter is read again with the next pass: somebody may have changed it. */
  recheck(): void {
    this.#filter.forget();
  }

  async #devices(): Promise<NetworkDevices> {
    return bothDevices(await this.namespace.links());
  }
}
