import type { NetworkId } from "../../shared/ids.ts";
import type { Mac } from "../../shared/mac.ts";
import { type Family, familyOf } from "../../shared/ip.ts";
import type {
  ActualNetwork,
  DesiredNetwork,
  DeviceShape,
  InterfaceAddress,
} from "../core/data-plane/kernel-state.ts";
import { ContainerPorts } from "./container-ports.ts";
import * as entries from "./forwarding-entries.ts";
import type { HostNamespace } from "./host-namespace.ts";
import { deleteAtOnce, deleteOneByOne } from "./netlink/deletions.ts";
import { addressesOf, neighboursOf } from "./netlink/dumps.ts";
import { deleteLink } from "./netlink/route.ts";
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
import { inetFaults6, inetFaultsOf, mendInet, mendInet6 } from "./proof/lone-link.ts";
import { type NetworkNamespace, noiseOf } from "./network-namespace.ts";
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

  constructor(network: NetworkId, namespace: NetworkNamespace, host: HostNamespace) {
    this.#network = network;
    this.namespace = namespace;
    this.#host = host;
    this.#filter = new PortFilter(namespace.path);
    this.#ports = new ContainerPorts({ namespace, host, filter: this.#filter });
  }

  async read(): Promise<ActualNetwork> {
    const { socket } = this.namespace;
    const links = await this.namespace.links();
    const devices = devicesAmong(links);
    const fdb = await neighboursOf(socket, "bridge");
    const neighbours = [...(await neighboursOf(socket, 4)), ...(await neighboursOf(socket, 6))];
    const device = shapeOf(devices, await addressesOf(socket));
    return {
      network: this.#network,
      present: true,
      device,
      faults: device === undefined ? [] : await this.#faults(devices, device),
      ...entries.entriesAmong(devices, fdb, neighbours),
      ...(await this.#ports.read(links, devices, fdb)),
    };
  }

  async #faults(devices: FoundDevices, { gateways }: DeviceShape): Promise<string[]> {
    const { socket, path } = this.namespace;
    const { bridge } = devices;
    const gateway6 = ofFamily(6, gateways);
    return [
      ...noiseOf(path),
      ...deviceFaults(devices, gateways[0]),
      // Of another address the shape tells.
      ...(bridge === undefined
        ? []
        : [
            ...(await inetFaultsOf(socket, bridge.index, ofFamily(4, gateways))),
            ...(gateway6 === undefined ? [] : await inetFaults6(socket, bridge.index, gateway6)),
          ]),
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
    await mendInet(socket, index, ofFamily(4, desired.gateways));
    const gateway6 = ofFamily(6, desired.gateways);
    if (gateway6 !== undefined) await mendInet6(socket, index, gateway6);
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

function ofFamily(
  family: Family,
  addresses: readonly InterfaceAddress[],
): InterfaceAddress | undefined {
  return addresses.find(({ ip }) => familyOf(ip) === family);
}
