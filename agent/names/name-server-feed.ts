import type { EndpointId, NetworkId, NodeId } from "../shared/ids.ts";
import { canonicalName } from "../shared/dns-name.ts";
import { asFailure } from "../shared/errors.ts";
import type { Log } from "../shared/ports.ts";
import { changedHolders, type Holder, holdersOf, type NamedNetwork } from "./core/names.ts";
import type { NameServer, Sandbox, SandboxId, TableChange } from "./dns/port.ts";
import type { Hosting } from "./hosting.ts";
import { InTurn } from "./in-turn.ts";
import type { Replication } from "./replication.ts";
import { type Joined, sandboxName, type Sandboxes } from "./sandboxes.ts";

/**
 * After this time without a peer's word what this host knows of a network counts as all there is:
 * in a partition a name that is not known must not wait for ever.
 */
const COMPLETE_AFTER_MS = 2000;

export interface ResolvingModules {
  readonly server: NameServer;
  readonly sandboxes: Sandboxes;
  readonly hosting: Pick<Hosting, "hosted" | "find" | "endpoints">;
  readonly replication: Pick<Replication, "isComplete" | "tables">;
  /** Hosts whose kernels do not answer. */
  readonly lost: () => ReadonlySet<NodeId>;
  readonly log: Log;
}

/** What the server was told of a network. */
interface Told {
  readonly timer: NodeJS.Timeout;
  /** COMPLETE_AFTER_MS are over. */
  waited: boolean;
  info: NamedNetwork | undefined;
  holders: ReadonlyMap<EndpointId, Holder>;
}

/**
 * Tells the name server whom to serve, by Docker's Join and Leave, and what there is to tell, by the
 * tables of the networks on this host.
 */
export class Resolving {
  readonly #modules: ResolvingModules;
  readonly #told = new Map<NetworkId, Told>();
  readonly #dirty = new Set<NetworkId>();
  readonly #serving = new InTurn<SandboxId>();
  #flush: NodeJS.Immediate | undefined;

  constructor(modules: ResolvingModules) {
    this.#modules = modules;
  }

  /** With the tables from disk, before the mesh: containers have asked since the agent ended. */
  async start(): Promise<void> {
    const { server, sandboxes } = this.#modules;
    await server.start();
    await this.forgetGone();
    const networks = new Set(sandboxes.all().map(({ network }) => network));
    for (const network of networks) {
      // The disk knows what peers said until a moment ago: nobody need wait for more.
      if (this.#modules.hosting.find(network) !== undefined) this.#begin(network).waited = true;
      this.#dirty.add(network);
    }
    this.#tell();
    await Promise.all(this.wanted().map((id) => this.#serve(id)));
  }

  async stop(next: "handOver" | "letGo"): Promise<void> {
    clearImmediate(this.#flush);
    for (const { timer } of this.#told.values()) clearTimeout(timer);
    await this.#modules.server.stop(next);
  }

  /** Containers here that should find names. */
  wanted(): SandboxId[] {
    const names = this.#modules.sandboxes.all().map(({ path }) => sandboxName(path));
    return [...new Set(names)] as SandboxId[];
  }

  /** At Docker's Join: when the container's namespace is there, its names are served with the answer. */
  async join(joined: Joined): Promise<void> {
    if (this.#modules.sandboxes.of(joined.endpoint)?.path !== joined.path)
      await this.leave(joined.endpoint);
    this.#modules.sandboxes.put(joined);
    // What was put into the tables just now.
    this.#tell();
    await this.#serve(sandboxName(joined.path) as SandboxId);
  }

  /** Where Docker has an endpoint: its Join was lost with our database. */
  found(joined: Joined): void {
    const { sandboxes, hosting } = this.#modules;
    const { endpoint, network } = joined;
    if (sandboxes.of(endpoint) !== undefined) return;
    if (hosting.endpoints(network).some(({ id }) => id === endpoint)) void this.join(joined);
  }

  /** Of an endpoint that was never joined nothing is to do. */
  async leave(endpoint: EndpointId): Promise<void> {
    const { sandboxes } = this.#modules;
    const joined = sandboxes.of(endpoint);
    if (joined === undefined) return;
    sandboxes.remove(endpoint);
    await this.#serve(sandboxName(joined.path) as SandboxId);
  }

  /** The network's documents changed, or its state. What follows in the same turn is told with it. */
  dirty(network: NetworkId): void {
    this.#dirty.add(network);
    this.#flush ??= setImmediate(() => this.#tell());
  }

  /** Records, hosts or whom we reach changed: any network here may look different. */
  changed(): void {
    for (const network of this.#known()) this.dirty(network);
  }

  /** Endpoints that went without a Leave of Docker's. */
  async forgetGone(): Promise<void> {
    const { sandboxes, hosting } = this.#modules;
    const gone = sandboxes
      .all()
      .filter(
        ({ endpoint, network }) => !hosting.endpoints(network).some(({ id }) => id === endpoint),
      );
    for (const { endpoint } of gone) await this.leave(endpoint);
  }

  /** For `leave`: nothing of ours stays in any container. */
  async withdraw(): Promise<void> {
    const { sandboxes } = this.#modules;
    for (const { endpoint } of sandboxes.all()) await this.leave(endpoint);
  }

  /** Told of, hosted, or with a container that asks. */
  #known(): Set<NetworkId> {
    const { hosting, sandboxes } = this.#modules;
    const asking = sandboxes.all().map(({ network }) => network);
    return new Set([...this.#told.keys(), ...hosting.hosted(), ...asking]);
  }

  /**
   * As the sandbox stands now; asked twice at once, the second time finds the newest. A container is not
   * refused because of its names: where we cannot answer Docker's resolver does, as without us.
   */
  async #serve(id: SandboxId): Promise<void> {
    const { server, log } = this.#modules;
    try {
      await this.#serving.run(id, async () => {
        const sandbox = this.#sandbox(id);
        if (sandbox === undefined) await server.withdraw(id);
        else await server.serve(sandbox);
      });
    } catch (error) {
      log.warn({ sandbox: id, ...asFailure(error) }, "names are not served in a container");
    }
  }

  #sandbox(id: SandboxId): Sandbox | undefined {
    const { sandboxes, hosting } = this.#modules;
    const inside = sandboxes.all().filter(({ path }) => sandboxName(path) === id);
    const [first] = inside;
    if (first === undefined) return undefined;
    const scope = [...new Set(inside.map(({ network }) => network))];
    const closed = scope.every((network) => hosting.find(network)?.internal === true);
    return { id, path: first.path, scope, closed };
  }

  #tell(): void {
    clearImmediate(this.#flush);
    this.#flush = undefined;
    const changes = [...this.#dirty].flatMap((network) => this.#changes(network));
    this.#dirty.clear();
    if (changes.length > 0) this.#modules.server.change(changes);
  }

  #changes(network: NetworkId): TableChange[] {
    const { hosting, replication, lost } = this.#modules;
    const record = hosting.find(network);
    const told = this.#told.get(network);
    if (record === undefined || !this.#isHere(network)) {
      if (told === undefined) return [];
      clearTimeout(told.timer);
      this.#told.delete(network);
      return [{ kind: "forget", network }];
    }
    const held = told ?? this.#begin(network);
    const changes: TableChange[] = [];
    const name = record.name === undefined ? undefined : canonicalName(record.name);
    const info = { network, name, complete: this.#complete(network, held) };
    if (info.name !== held.info?.name || info.complete !== held.info?.complete) {
      held.info = info;
      changes.push({ kind: "network", info });
    }
    const holders = holdersOf(replication.tables, record, lost());
    const { put, remove } = changedHolders(held.holders, holders);
    held.holders = new Map(holders.map((holder) => [holder.endpoint, holder]));
    if (put.length + remove.length > 0) changes.push({ kind: "holders", network, put, remove });
    return changes;
  }

  #begin(network: NetworkId): Told {
    const timer = setTimeout(() => {
      told.waited = true;
      this.dirty(network);
    }, COMPLETE_AFTER_MS);
    const told: Told = { timer, waited: false, info: undefined, holders: new Map() };
    this.#told.set(network, told);
    return told;
  }

  #isHere(network: NetworkId): boolean {
    const { hosting } = this.#modules;
    return hosting.hosted().includes(network) || hosting.endpoints(network).length > 0;
  }

  #complete(network: NetworkId, { waited }: Told): boolean {
    return waited || this.#modules.replication.isComplete(network);
  }
}
