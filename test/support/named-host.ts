import { setTimeout as delay } from "node:timers/promises";
import type { EngineEvent } from "../../agent/docker/engine/port.ts";
import type { Inside } from "../../agent/core/names/inside.ts";
import { ContainerWatcher } from "../../agent/docker/container-watcher.ts";
import type { Endpoint } from "../../shared/documents.ts";
import { type DockerNetworkId, type EndpointId, NetworkId } from "../../shared/ids.ts";
import { systemClock, systemTimers } from "../../shared/node/system.ts";
import { silentLog } from "../../shared/ports.ts";
import { app, endpoint } from "./cluster.ts";
import type { EngineKind } from "./engine-root.ts";
import { FakeEngine } from "./fake-engine.ts";

/** The engine's networks that are the cluster's; all others are not ours. */
const OUR_NETWORKS = ["app", "db"];

/**
 * An engine and what a host says of its containers, nothing between them but `ContainerWatcher`. Events go at
 * once, unless `hold` is set; questions are answered at once, unless `ask` is replaced.
 */
export class NamedHost {
  readonly engine: FakeEngine;
  containerWatcher: ContainerWatcher;
  /** The own documents' endpoints. */
  readonly own = new Map<EndpointId, Endpoint>();
  /** Sandboxes by endpoint, as looks showed them. */
  readonly found = new Map<EndpointId, string>();
  /** What each endpoint's container alone sees. */
  readonly inside = new Map<EndpointId, Inside>();
  /** Changes of an own document, for names or health. */
  changes = 0;
  /** Networks of the cluster without a way out. */
  readonly closed = new Set<NetworkId>();
  /** `-o` of the cluster's networks. */
  options: Readonly<Record<string, string>> = {};
  /** Events not delivered yet. */
  readonly held: EngineEvent[] = [];
  hold = false;
  /** Questions under way. */
  asking = 0;
  asked = 0;
  ask: <T>(question: () => Promise<T>) => Promise<T> = (question) => question();
  readonly #where = new Map<EndpointId, DockerNetworkId>();
  readonly #networks: ReadonlyMap<DockerNetworkId, NetworkId>;

  constructor(kind: EngineKind = "20.10") {
    this.engine = new FakeEngine(
      {
        createEndpoint: (network, id) => {
          this.#where.set(id, network);
          if (this.#networks.has(network))
            this.own.set(id, { ...endpoint(1, this.#where.size % 250), id });
        },
        leave: (_, id) => this.containerWatcher.left(id),
        deleteEndpoint: (_, id) => this.own.delete(id),
      },
      kind,
    );
    this.#networks = new Map(
      OUR_NETWORKS.map((name, i) => [
        this.engine.network(name),
        NetworkId.parse(String(i).repeat(32)),
      ]),
    );
    this.containerWatcher = this.#agent();
    this.engine.listen((event) => {
      if (event === undefined) return;
      if (this.hold) this.held.push(event);
      else this.containerWatcher.happened(event);
    });
  }

  /** Another agent on the same documents: it has heard of nothing. */
  restart(): void {
    this.containerWatcher.stop();
    this.containerWatcher = this.#agent();
  }

  /** What nobody delivers is lost. */
  deliver(count = this.held.length): void {
    for (const event of this.held.splice(0, count)) this.containerWatcher.happened(event);
  }

  async list(): Promise<void> {
    this.containerWatcher.listed(await this.engine.containers());
  }

  /** Every question is answered that can be, and what followed from it is said. */
  async quiet(): Promise<void> {
    for (let asked = -1; asked !== this.asked;) {
      asked = this.asked;
      do await delay(25);
      while (this.asking > this.engine.waiting);
    }
  }

  /** Of the containers that have names: `name` and its others, and why it is out. */
  said(): Record<string, string> {
    return Object.fromEntries(
      [...this.own.values()].flatMap(({ names, out }) =>
        names === undefined ? [] : [[names[0] ?? "", out ?? "in"]],
      ),
    );
  }

  #agent(): ContainerWatcher {
    const asks = <T>(question: () => Promise<T>): Promise<T> => {
      this.asking++;
      this.asked++;
      return this.ask(question).finally(() => this.asking--);
    };
    return new ContainerWatcher({
      engine: {
        inspect: (id) => asks(() => this.engine.inspect(id)),
        attachments: (id) => asks(() => this.engine.attachments(id)),
        remembered: () => this.engine.remembered(),
      },
      bindings: {
        network: (docker) => this.#networks.get(docker),
        networks: () => this.#networks,
      },
      localNetworks: {
        hosted: () => [...this.#networks.values()],
        endpoints: (network) =>
          [...this.own.values()].filter(
            ({ id }) =>
              this.#networks.get(this.#where.get(id) ?? ("" as DockerNetworkId)) === network,
          ),
        find: (network) => ({
          ...app,
          internal: this.closed.has(network),
          driverOptions: { ...this.options },
        }),
        amend: (_, amended) => {
          this.changes++;
          for (const said of amended) {
            if (!this.own.has(said.id)) throw new Error(`${said.id} is gone`);
            this.own.set(said.id, said);
          }
        },
      },
      nameServerFeed: {
        found: ({ endpoint, path }) => void this.found.set(endpoint, path),
        inside: (endpoint, inside) => void this.inside.set(endpoint, inside),
      },
      clock: systemClock,
      timers: systemTimers,
      log: silentLog,
    });
  }
}
