import type {
  Attachments,
  ContainerConnection,
  ContainerDetails,
  ContainerEvent,
  ContainerId,
  DockerEngine,
  EngineContainer,
  EngineEvent,
  Health,
} from "../../agent/docker/engine/port.ts";
import { OverlayError } from "../../shared/errors.ts";
import { DockerNetworkId, EndpointId } from "../../shared/ids.ts";
import type { EngineKind } from "./engine-root.ts";

/** What Docker's calls make of the plugin's side. */
export interface FakePlugin {
  createEndpoint(network: DockerNetworkId, endpoint: EndpointId): void;
  leave(network: DockerNetworkId, endpoint: EndpointId): void;
  deleteEndpoint(network: DockerNetworkId, endpoint: EndpointId): void;
}

export interface FakeOptions {
  readonly hostname?: string;
  readonly checked?: boolean;
  readonly stopSignal?: number;
  /** `--dns` was given. */
  readonly resolvers?: boolean;
  /** `-p` */
  readonly published?: readonly string[];
  readonly ports?: readonly string[];
  readonly labels?: ContainerDetails["labels"];
  /** Aliases by network, of which the name or a part of the id is given. */
  readonly networks?: Readonly<Record<string, readonly string[]>>;
  /** `--link`, of each of these networks. */
  readonly links?: readonly string[];
}

interface Connection {
  /** Before the first start: as the user gave it. */
  name: string;
  readonly network: DockerNetworkId;
  readonly aliases: readonly string[];
  endpoint: EndpointId | undefined;
  /** The container has not been started since. */
  fresh: boolean;
}

interface Container {
  readonly id: ContainerId;
  readonly options: FakeOptions;
  name: string;
  state: "up" | "paused" | "down";
  health: Health | undefined;
  startedAtMs: number;
  connections: Connection[];
  /** While Docker starts or ends it, who inspects it waits. */
  busy: boolean;
}

type Asked = Pick<DockerEngine, "inspect" | "attachments" | "containers" | "events" | "remembered">;

/**
 * Docker's engine as names and health see it, in the steps in which a real one does things: what is
 * told by events and in which order, what the list shows meanwhile, and what an inspection waits for.
 * Proven by test/contract/engine-contract.ts.
 */
export class FakeEngine implements Asked {
  /** Engines since 25 say of the end of a container last that it ended. */
  readonly kind: EngineKind;
  /** Names of its networks without a way out. */
  readonly internal = new Set<string>();
  /** It lists none of what it has. */
  restoring = false;
  readonly #plugin: FakePlugin;
  readonly #containers = new Map<ContainerId, Container>();
  readonly #networks = new Map<string, DockerNetworkId>();
  readonly #waiting: (() => void)[] = [];
  readonly #happened: ContainerEvent[] = [];
  #listeners = new Set<(event: EngineEvent | undefined) => void>();
  #ids = 0;
  #clockMs = 0;

  constructor(plugin: FakePlugin, kind: EngineKind = "20.10") {
    this.#plugin = plugin;
    this.kind = kind;
  }

  /** Who inspects a container that Docker is busy with. */
  get waiting(): number {
    return this.#waiting.length;
  }

  network(name: string): DockerNetworkId {
    let id =
      this.#networks.get(name) ?? [...this.#networks.values()].find((id) => id.startsWith(name));
    if (id === undefined) this.#networks.set(name, (id = DockerNetworkId.parse(this.#id())));
    return id;
  }

  create(name: string, options: FakeOptions = {}): ContainerId {
    const id = this.#id();
    const connections = Object.entries(options.networks ?? {}).map(([network, aliases]) =>
      this.#connection(network, aliases),
    );
    const rest = { state: "down", health: undefined, startedAtMs: -1, busy: false } as const;
    this.#containers.set(id, { ...rest, id, options, name, connections });
    this.#say(id, "create");
    return id;
  }

  /** Its networks are connected; Docker is about to start the process. */
  beginStart(id: ContainerId): void {
    const container = this.#get(id);
    container.busy = true;
    for (const connection of container.connections) this.#attach(container, connection);
  }

  endStart(id: ContainerId): void {
    const container = this.#get(id);
    container.state = "up";
    container.health = container.options.checked === true ? "starting" : undefined;
    container.startedAtMs = ++this.#clockMs;
    for (const connection of container.connections) {
      connection.fresh = false;
      connection.name = this.#nameOf(connection.network) ?? connection.name;
    }
    this.#say(id, "start");
    this.#free(container);
  }

  start(id: ContainerId): void {
    this.beginStart(id);
    this.endStart(id);
  }

  run(name: string, options: FakeOptions = {}): ContainerId {
    const id = this.create(name, options);
    this.start(id);
    return id;
  }

  /** The start failed. */
  failStart(id: ContainerId): void {
    this.#detachAll(this.#get(id));
    this.#say(id, "die");
    this.#free(this.#get(id));
  }

  check(id: ContainerId, health: Health): void {
    const container = this.#get(id);
    if (container.health === health) return;
    container.health = health;
    this.#say(id, `health_status: ${health}`);
  }

  pause(id: ContainerId): void {
    const container = this.#get(id);
    container.state = "paused";
    if (container.health !== undefined) container.health = "unhealthy";
    this.#say(id, "pause");
  }

  unpause(id: ContainerId): void {
    this.#get(id).state = "up";
    this.#say(id, "unpause");
  }

  /** The process goes on running. */
  kill(id: ContainerId, signal: number): void {
    this.#say(id, "kill", { signal: String(signal) });
  }

  /** Its process has ended. */
  end(id: ContainerId): void {
    const container = this.#get(id);
    container.state = "down";
    if (container.health !== undefined) container.health = "unhealthy";
    for (const { network, endpoint } of container.connections)
      if (endpoint !== undefined) this.#plugin.leave(network, endpoint);
    if (this.kind === "20.10") this.#say(id, "die");
    this.#detachAll(container);
    if (this.kind !== "20.10") this.#say(id, "die");
  }

  rename(id: ContainerId, name: string): void {
    this.#get(id).name = name;
    this.#say(id, "rename", { name });
  }

  remove(id: ContainerId): void {
    if (this.#get(id).state !== "down") this.end(id);
    this.#containers.delete(id);
    this.#say(id, "destroy");
  }

  /** Of a container that does not run nobody is told. */
  connect(id: ContainerId, network: string, aliases: readonly string[] = []): void {
    const container = this.#get(id);
    const connection = this.#connection(network, aliases);
    connection.fresh = container.startedAtMs < 0;
    container.connections.push(connection);
    if (container.state !== "down") this.#attach(container, connection);
  }

  disconnect(id: ContainerId, network: string): void {
    const container = this.#get(id);
    const at = container.connections.findIndex(({ name }) => name === network);
    const [connection] = container.connections.splice(at, 1);
    if (connection === undefined) throw new Error(`${container.name} is not on ${network}`);
    const { endpoint } = connection;
    if (endpoint === undefined) this.#sayOn(connection.network, "disconnect", id);
    else {
      this.#plugin.leave(connection.network, endpoint);
      this.#detach(container, connection);
    }
  }

  /** The engine ended with its containers, and nobody was told of anything. */
  crash(): void {
    for (const container of this.#containers.values()) {
      container.state = "down";
      for (const connection of container.connections) connection.endpoint = undefined;
      this.#free(container);
    }
    this.cutEvents();
  }

  /** Who listens is cut off. */
  cutEvents(): void {
    for (const listener of this.#listeners) listener(undefined);
  }

  async inspect(id: ContainerId): Promise<ContainerDetails | undefined> {
    while (this.#containers.get(id)?.busy === true)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    const container = this.#containers.get(id);
    if (container === undefined) return undefined;
    const { options, name, state, health, startedAtMs } = container;
    const shortId = id.slice(0, 12);
    const hostname = options.hostname ?? shortId;
    // Before 25 an engine adds what it resolves to what the user gave.
    const added = this.kind === "20.10" && startedAtMs > 0 ? [shortId, hostname] : [];
    return {
      id,
      name,
      hostname,
      checked: options.checked === true,
      stopSignal: options.stopSignal ?? 15,
      resolvers: options.resolvers === true,
      published: options.published ?? [],
      ports: options.ports ?? [],
      labels: options.labels ?? {},
      state,
      health,
      startedAtMs,
      sandbox: state === "down" ? undefined : `/var/run/docker/netns/${shortId}`,
      connections: container.connections.map((held): ContainerConnection => ({
        name: held.name,
        id: held.fresh ? undefined : held.network,
        endpoint: state === "down" ? undefined : held.endpoint,
        aliases: [...held.aliases, ...added],
        links: options.links ?? [],
      })),
    };
  }

  async attachments(network: DockerNetworkId): Promise<Attachments> {
    const name = this.#nameOf(network);
    if (name === undefined)
      throw new OverlayError({ code: "NOT_FOUND", message: "no such network" });
    const endpoints = this.#shown().flatMap(({ id, connections }) =>
      connections.flatMap((held) =>
        held.network === network && held.endpoint !== undefined
          ? [{ container: id, endpoint: held.endpoint }]
          : [],
      ),
    );
    return { name, internal: this.internal.has(name), endpoints };
  }

  async containers(): Promise<EngineContainer[]> {
    return this.#shown().map(({ id, name, state, health, connections }) => ({
      id,
      name,
      running: state !== "down",
      state,
      health: state === "up" ? health : undefined,
      networks: connections.map((held) => ({
        name: held.name,
        id: held.fresh ? undefined : held.network,
        endpoint: state === "down" ? undefined : held.endpoint,
      })),
    }));
  }

  async *events(signal: AbortSignal): AsyncGenerator<EngineEvent> {
    const queue: (EngineEvent | undefined)[] = [{ kind: "listening" }];
    let wake = (): void => {};
    const listener = (event: EngineEvent | undefined): void => {
      queue.push(event);
      wake();
    };
    signal.addEventListener("abort", () => listener(undefined), { once: true });
    this.#listeners.add(listener);
    try {
      for (;;) {
        if (queue.length === 0) await new Promise<void>((resolve) => (wake = resolve));
        const event = queue.shift();
        if (event === undefined) return;
        yield event;
      }
    } finally {
      this.#listeners.delete(listener);
    }
  }

  async remembered(): Promise<readonly ContainerEvent[]> {
    return this.#happened.filter(({ action }) => action === "kill" || action === "pause");
  }

  /** As `events`, at once. */
  listen(listener: (event: EngineEvent | undefined) => void): void {
    this.#listeners.add(listener);
  }

  #attach(container: Container, connection: Connection): void {
    connection.endpoint = EndpointId.parse(this.#id());
    this.#plugin.createEndpoint(connection.network, connection.endpoint);
    this.#sayOn(connection.network, "connect", container.id);
  }

  #detachAll(container: Container): void {
    for (const connection of container.connections) this.#detach(container, connection);
  }

  #detach({ id }: Container, connection: Connection): void {
    const { network, endpoint } = connection;
    if (endpoint === undefined) return;
    connection.endpoint = undefined;
    this.#plugin.deleteEndpoint(network, endpoint);
    this.#sayOn(network, "disconnect", id);
  }

  #connection(name: string, aliases: readonly string[]): Connection {
    return { name, network: this.network(name), aliases, endpoint: undefined, fresh: true };
  }

  #shown(): Container[] {
    return this.restoring ? [] : [...this.#containers.values()];
  }

  #nameOf(network: DockerNetworkId): string | undefined {
    return [...this.#networks].find(([, id]) => id === network)?.[0];
  }

  #free(container: Container): void {
    container.busy = false;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #get(id: ContainerId): Container {
    const found = this.#containers.get(id);
    if (found === undefined) throw new Error(`no container ${id}`);
    return found;
  }

  #say(container: ContainerId, action: string, attributes: Record<string, string> = {}): void {
    const atMs = ++this.#clockMs;
    const event = { kind: "container", action, container, attributes, atMs } as const;
    this.#happened.push(event);
    this.#tell(event);
  }

  #sayOn(network: DockerNetworkId, action: string, container: ContainerId): void {
    this.#tell({ kind: "network", action, network, container });
  }

  #tell(event: EngineEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  #id(): string {
    return (++this.#ids).toString(16).padStart(12, "0").padEnd(64, "0");
  }
}
