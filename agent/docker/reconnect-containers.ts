import type { DockerNetworkId, NetworkId } from "../../shared/ids.ts";
import type { Bindings } from "../networks/bindings.ts";
import type { DockerEngine, EngineContainer, EngineNetwork } from "./engine/port.ts";
import { unconnected, type Unconnected } from "./references.ts";
import type { LocalNetworks } from "../networks/local-networks.ts";
import { Since } from "../../shared/node/since.ts";

/** The engine's list may be a step behind a container that is just being connected. */
const SETTLED_MS = 3000;
const LOOK_MS = 2000;
/** So long after a network was replaced, a connection that got nothing is our doing. */
const REPLACED_MS = 60_000;

export interface ContainerReconnectorModules {
  readonly engine: Pick<
    DockerEngine,
    "attachments" | "connect" | "connection" | "containers" | "disconnect" | "inspect" | "networks"
  >;
  readonly bindings: Pick<Bindings, "network">;
  readonly localNetworks: Pick<LocalNetworks, "endpoints">;
}

/**
 * Running containers that were to be on a network which was replaced in that moment: they name it, the engine
 * shows an address of before, and they are not on it. They are connected once more, as was asked for them.
 */
export class ContainerReconnector {
  readonly #modules: ContainerReconnectorModules;
  readonly #since = new Since<string>(SETTLED_MS);
  /** Networks that were replaced here, by name, and when. */
  readonly #replacedMs = new Map<string, number>();

  constructor(modules: ContainerReconnectorModules) {
    this.#modules = modules;
  }

  /** This engine's network of that name is another one now. */
  replaced(name: string): void {
    this.#replacedMs.set(name, performance.now());
  }

  /** When the next look can be worth it: soon after a network was replaced, since nobody tells what failed. */
  dueInMs(): number {
    return Math.min(this.#since.dueInMs(), this.#replacedMs.size > 0 ? LOOK_MS : Infinity);
  }

  /** Those that stayed so. What Docker refused by itself stays refused: who asked was told. */
  async due(
    containers: readonly EngineContainer[],
    shown: readonly EngineNetwork[],
  ): Promise<readonly Unconnected[]> {
    for (const [name, ms] of this.#replacedMs)
      if (performance.now() - ms > REPLACED_MS) this.#replacedMs.delete(name);
    // A connect that failed half-way is not in the list, which costs less than inspecting.
    const listed = this.#replacedMs.size > 0 ? await this.#inspected(containers) : containers;
    const found = (await this.#find(listed, shown)).filter(
      ({ why, network }) =>
        why === "replaced" || why === "gone" || this.#replacedMs.has(network.name),
    );
    const byKey = new Map(found.map((one) => [`${one.container.id} ${one.network.id}`, one]));
    return this.#since.over([...byKey.keys()]).map((key) => byKey.get(key)!);
  }

  /** With what the user had asked for the connection. One that went, or stopped, meanwhile needs nothing. */
  async connect({ container, network, before }: Unconnected): Promise<void> {
    const { engine } = this.#modules;
    const found = await engine.connection(container.id, { id: before, name: network.name });
    if (found === undefined) return;
    // There is nothing to disconnect, but what the engine shows.
    await engine.disconnect(network.id, found).catch(() => {});
    await engine.connect(network.id, found);
  }

  /** For `verify`. */
  async differences(): Promise<{ network: NetworkId; text: string }[]> {
    const { engine, bindings } = this.#modules;
    const containers = await this.#inspected(await engine.containers());
    const found = await this.#find(containers, await engine.networks());
    return found.flatMap((one) => {
      const network = bindings.network(one.network.id);
      return network === undefined ? [] : [{ network, text: textOf(one) }];
    });
  }

  /** With their networks as the engine has them now: its list is of when their start or end was done. */
  async #inspected(containers: readonly EngineContainer[]): Promise<EngineContainer[]> {
    const inspected: EngineContainer[] = [];
    for (const container of containers.filter(({ running }) => running)) {
      const details = await this.#modules.engine.inspect(container.id);
      if (details !== undefined) inspected.push({ ...container, networks: details.connections });
    }
    return inspected;
  }

  async #find(
    containers: readonly EngineContainer[],
    shown: readonly EngineNetwork[],
  ): Promise<Unconnected[]> {
    const { bindings, localNetworks } = this.#modules;
    const all = unconnected(containers, shown, (docker: DockerNetworkId) => {
      const network = bindings.network(docker);
      if (network === undefined) return undefined;
      return new Map(localNetworks.endpoints(network).map((endpoint) => [endpoint.id, endpoint]));
    });
    const isLost = await Promise.all(all.map((one) => this.#isLostFromTables(one)));
    return all.filter((_, i) => !isLost[i]);
  }

  /** It is connected, and our database does not have it any more: that is found by comparing (orphan-sweeper.ts). */
  async #isLostFromTables({ container, network, why }: Unconnected): Promise<boolean> {
    if (why !== "gone") return false;
    const { endpoints } = await this.#modules.engine.attachments(network.id);
    return endpoints.some(({ container: id }) => id === container.id);
  }
}

function textOf({ container, network, why, shown }: Unconnected): string {
  const { name } = container;
  if (why === "address")
    return `the engine shows ${shown} for container ${name}, which the tables have with another address: \`docker restart ${name}\``;
  const address = shown === undefined ? "" : `, where the engine shows ${shown},`;
  return `container ${name} is to be on it${address} and is not: \`docker network disconnect -f ${network.name} ${name}\`, then \`docker network connect\``;
}
