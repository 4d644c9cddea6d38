import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { type EndpointId, NetworkId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import type {
  ActualNetwork,
  DesiredNetwork,
  InterfaceAddress,
  Step,
} from "../core/data-plane/kernel-state.ts";
import { nothingOf } from "../core/data-plane/held-network.ts";
import { containerLink } from "./container-link.ts";
import { missing } from "./errno.ts";
import { HostNamespace } from "./host-namespace.ts";
import { LinuxNetwork } from "./linux-network.ts";
import { createPinnedNetns, deletePinnedNetns, isPinnedNetns, transportNetns } from "./netns.ts";
import { bridgeMac } from "./network-devices.ts";
import { NetworkNamespace, quieten } from "./network-namespace.ts";
import type { Kernel } from "./port.ts";
import { type Batch, batchesOf, isOnlyAdding } from "./step-batches.ts";

export interface LinuxKernelOptions {
  /** Where namespaces are pinned; /run/overlay-ts/netns in service. */
  readonly netnsDirectory: string;
  /** The host's namespace; our own in service, a test's host otherwise. */
  readonly hostNetns?: string;
}

/** The data plane of this host over rtnetlink, see README.md in this folder. */
export class LinuxKernel implements Kernel {
  readonly #netnsDirectory: string;
  readonly #host: HostNamespace;
  /** Those with open sockets. */
  readonly #networks = new Map<NetworkId, LinuxNetwork>();
  readonly #listeners: ((network: NetworkId) => void)[] = [];

  constructor({ netnsDirectory, hostNetns }: LinuxKernelOptions) {
    this.#netnsDirectory = netnsDirectory;
    this.#host = new HostNamespace({
      path: hostNetns,
      transportPath: transportNetns(netnsDirectory),
    });
  }

  list(): Promise<NetworkId[]> {
    const directory = this.#netnsDirectory;
    const names = existsSync(directory) ? readdirSync(directory) : [];
    const found = names.map((name) => NetworkId.safeParse(name));
    return Promise.resolve(found.flatMap((id) => (id.success ? [id.data] : [])).toSorted());
  }

  async read(network: NetworkId): Promise<ActualNetwork> {
    const path = this.#path(network);
    if (isPinnedNetns(path)) return this.#network(network).read();
    // A plain file where a namespace should be pinned: a crash between the two.
    return { ...nothingOf(network), present: existsSync(path) };
  }

  async apply(network: NetworkId, steps: readonly Step[]): Promise<void> {
    for (const batch of batchesOf(steps)) {
      // What only adds causes no loss: one that is told meanwhile is somebody else's.
      const namespace = isOnlyAdding(batch) ? undefined : this.#networks.get(network)?.namespace;
      namespace?.pauseWatch();
      try {
        await this.#carryOut(network, batch);
      } finally {
        namespace?.resumeWatch();
      }
    }
  }

  onChange(listener: (network: NetworkId) => void): void {
    this.#listeners.push(listener);
  }

  containerLink(endpoint: EndpointId): string {
    return containerLink(endpoint);
  }

  endsHere(): Promise<ReadonlySet<string>> {
    return this.#host.endNames();
  }

  giveBackEnd(
    endpoint: EndpointId,
    sandbox: string,
    addresses: readonly InterfaceAddress[],
    gateways: readonly Ip[],
  ): Promise<void> {
    return this.#host.giveBackEnd(endpoint, sandbox, addresses, gateways);
  }

  recheck(): void {
    for (const network of this.#networks.values()) network.recheck();
  }

  /** Closes sockets; namespaces and devices go on forwarding. */
  close(): Promise<void> {
    this.#host.close();
    for (const network of this.#networks.keys()) this.#forget(network);
    return Promise.resolve();
  }

  async #carryOut(network: NetworkId, batch: Batch): Promise<void> {
    switch (batch.kind) {
      case "extend":
        return this.#extend(network, batch.desired);
      case "retract":
        return this.#retract(network);
      default:
        return this.#network(network).carryOut(batch);
    }
  }

  async #extend(network: NetworkId, desired: DesiredNetwork): Promise<void> {
    const path = this.#path(network);
    // Refused before anything of it is there.
    const mac = bridgeMac(desired);
    if (!isPinnedNetns(path)) {
      this.#forget(network);
      createPinnedNetns(path);
    }
    quieten(path);
    await this.#network(network).extend(desired, mac);
  }

  async #retract(network: NetworkId): Promise<void> {
    const path = this.#path(network);
    if (isPinnedNetns(path)) await this.#network(network).empty();
    this.#forget(network);
    deletePinnedNetns(path);
  }

  /** @throws NETLINK ENODEV when the network has no namespace here. */
  #network(network: NetworkId): LinuxNetwork {
    const path = this.#path(network);
    if (!isPinnedNetns(path)) throw missing(`network ${network}`);
    let held = this.#networks.get(network);
    if (held === undefined) {
      const namespace = new NetworkNamespace(network, path, () => {
        for (const listener of this.#listeners) listener(network);
      });
      this.#networks.set(network, (held = new LinuxNetwork(network, namespace, this.#host)));
    }
    return held;
  }

  #forget(network: NetworkId): void {
    this.#networks.get(network)?.namespace.close();
    this.#networks.delete(network);
  }

  #path(network: NetworkId): string {
    return join(this.#netnsDirectory, network);
  }
}
