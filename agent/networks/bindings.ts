import { z } from "zod";
import { DockerNetworkId, NetworkId } from "../../shared/ids.ts";
import type { Disk } from "../store/disk.ts";

const Removed = z.object({ network: NetworkId });
const Binding = z.object({ docker: DockerNetworkId, network: NetworkId });

/**
 * Which networks this engine shows, by its own ids, and which it removed. Docker says each of them once, so it is
 * on disk before Docker is answered; a removal counts even when the disk is full.
 */
export class Bindings {
  readonly #disk: Disk;
  readonly #networks = new Map<DockerNetworkId, NetworkId>();
  readonly #removed = new Set<NetworkId>();
  readonly #removedChanged: () => void;

  constructor(disk: Disk, removedChanged: () => void = () => {}) {
    this.#disk = disk;
    this.#removedChanged = removedChanged;
    for (const { docker, network } of disk.list("binding/", Binding))
      this.#networks.set(docker, network);
    for (const { network } of disk.list("removed/", Removed)) this.#removed.add(network);
  }

  network(docker: DockerNetworkId): NetworkId | undefined {
    return this.#networks.get(docker);
  }

  /** Every network this engine has, by its own id. */
  networks(): ReadonlyMap<DockerNetworkId, NetworkId> {
    return this.#networks;
  }

  bind(docker: DockerNetworkId, network: NetworkId): void {
    this.#disk.put(`binding/${docker}`, { docker, network });
    this.#networks.set(docker, network);
  }

  unbind(docker: DockerNetworkId): void {
    this.#networks.delete(docker);
    this.#disk.oweDelete(`binding/${docker}`);
  }

  /** Networks that were removed on this engine, until it is decided whether they end in the cluster. */
  removed(): ReadonlySet<NetworkId> {
    return this.#removed;
  }

  markRemoved(network: NetworkId): void {
    this.#disk.owePut(`removed/${network}`, { network });
    this.#removed.add(network);
    this.#removedChanged();
  }

  clearRemoved(network: NetworkId): void {
    this.#removed.delete(network);
    this.#disk.oweDelete(`removed/${network}`);
    this.#removedChanged();
  }
}
