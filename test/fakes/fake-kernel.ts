import type { EndpointId, NetworkId } from "../../shared/ids.ts";
import { OverlayError } from "../../shared/errors.ts";
import { HeldNetwork, nothingOf } from "../../agent/core/data-plane/held-network.ts";
import {
  type ActualNetwork,
  portLink,
  type Step,
} from "../../agent/core/data-plane/kernel-state.ts";
import { containerLink } from "../../agent/kernel/container-link.ts";
import type { Kernel } from "../../agent/kernel/port.ts";

/** The data plane in memory: the fast twin of the kernel in tests and in the simulation. */
export class FakeKernel implements Kernel {
  readonly #networks = new Map<NetworkId, HeldNetwork>();
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
    return this.#held(network).asRead();
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
    if (step.kind === "extend") this.#networks.set(network, this.#held(network));
    else if (step.kind !== "retract" && step.kind !== "removePort") this.#extended(network);
    this.#held(network).carriedOut(step);
    if (step.kind === "retract") this.#networks.delete(network);
  }

  #held(network: NetworkId): HeldNetwork {
    return this.#networks.get(network) ?? new HeldNetwork(nothingOf(network));
  }

  #extended(network: NetworkId): HeldNetwork {
    const held = this.#held(network);
    if (held.device === undefined)
      throw new OverlayError({
        code: "NETLINK",
        errno: "ENODEV",
        op: "lookup",
        message: `network ${network} has no device`,
      });
    return held;
  }
}
