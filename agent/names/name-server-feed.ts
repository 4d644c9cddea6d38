import type { SecurityClass } from "../../shared/cluster-state.ts";
import type { EndpointId, NetworkId, NodeId } from "../../shared/ids.ts";
import { isDeepStrictEqual } from "node:util";
import { canonicalName } from "../../shared/dns-name.ts";
import { asFailure, type Failure } from "../../shared/errors.ts";
import { inBackground } from "../../shared/node/in-background.ts";
import type { Clock, Log, Timers } from "../../shared/ports.ts";
import { GoneNames, REMEMBERED_MS } from "../core/names/gone-names.ts";
import type { Inside } from "../core/names/inside.ts";
import { type Holder, namedHosts, type NamedNetwork, type NamedVip } from "../core/names/names.ts";
import { ToldHolders } from "../core/names/told-holders.ts";
import { vipsOn } from "../core/balancing/vips-on.ts";
import { NO_SERVED_VIPS, type ServedVips } from "./served-vips.ts";
import type { Closed, NameServer, Sandbox, SandboxId, TableChange } from "./server/port.ts";
import type { LocalNetworks } from "../networks/local-networks.ts";
import { KeyedMutex } from "../../shared/node/keyed-mutex.ts";
import type { Replication } from "../replication/replication.ts";
import { type Joined, sandboxName, type JoinedSandboxes } from "./joined-sandboxes.ts";
import { RetriedWork } from "../../shared/node/retried-work.ts";

export interface NameServerFeedTimes {
  /**
   * After this time without a peer's word what this host knows of a network counts as all there is:
   * in a partition a name that is not known must not wait for ever.
   */
  readonly completeAfterMs: number;
  /** See `GoneNames`. */
  readonly rememberedMs: number;
}

export const DEFAULT_FEED_TIMES: NameServerFeedTimes = {
  completeAfterMs: 2000,
  rememberedMs: REMEMBERED_MS,
};

export interface NameServerFeedModules {
  readonly server: NameServer;
  readonly sandboxes: JoinedSandboxes;
  readonly localNetworks: Pick<LocalNetworks, "hosted" | "find" | "endpoints">;
  readonly replication: Pick<Replication, "isComplete" | "tables">;
  /** Hosts that are not reached on networks of the class. */
  readonly lost: (encryption: SecurityClass) => ReadonlySet<NodeId>;
  /** `failure` says something else. */
  readonly failureChanged?: () => void;
  readonly clock: Pick<Clock, "nowMs">;
  readonly timers: Timers;
  readonly log: Log;
}

/** The state of a network that the server has. */
interface Told {
  readonly stopWaiting: () => void;
  /** `completeAfterMs` are over. */
  waited: boolean;
  info: NamedNetwork | undefined;
  /** By identity: as `vipsOn` has them. */
  vips: readonly NamedVip[];
  /** Who holds names, and who had them a moment ago. */
  holders: ToldHolders;
  readonly gone: GoneNames;
  /** From when the first of `gone` came until it is forgotten. */
  stopForgetting: (() => void) | undefined;
}

/**
 * Tells the name server whom to serve, by Docker's Join and Leave, and what there is to tell, by the
 * tables of the networks on this host.
 */
export class NameServerFeed {
  readonly #modules: NameServerFeedModules;
  readonly #times: NameServerFeedTimes;
  readonly #told = new Map<NetworkId, Told>();
  readonly #dirty = new Set<NetworkId>();
  readonly #serving = new KeyedMutex<SandboxId>();
  /** Why sandboxes are not served as they should be. */
  readonly #refused = new Map<SandboxId, Failure>();
  readonly #retried: RetriedWork;
  #stopTelling: (() => void) | undefined;
  #drifts = 0;
  #servedVips = NO_SERVED_VIPS;

  constructor(modules: NameServerFeedModules, times = DEFAULT_FEED_TIMES) {
    this.#modules = modules;
    this.#times = times;
    this.#retried = new RetriedWork((failure) => {
      if (failure !== undefined)
        modules.log.warn(
          { ...failure },
          "names are not served in some containers; Docker's resolver answers there",
        );
      modules.failureChanged?.();
    });
  }

  /** In which containers nobody finds names of other hosts' containers, and why. */
  failure(): Failure | undefined {
    return this.#retried.failure();
  }

  /** Whose rules translate virtual addresses; before `start`. `vipsServed` says that it is others now. */
  setServedVips(served: ServedVips): void {
    this.#servedVips = served;
  }

  /** Other virtual addresses than before are translated there. */
  async vipsServed(sandbox: SandboxId): Promise<void> {
    if (this.wanted().includes(sandbox)) await this.#serve(sandbox);
  }

  /** Sandboxes that were refused, again. */
  async serveAgain(): Promise<void> {
    for (const id of this.#refused.keys()) await this.#serve(id);
  }

  /** With the tables from disk, before the mesh: containers have asked since the agent ended. */
  async start(): Promise<void> {
    const { server, sandboxes } = this.#modules;
    await server.start();
    await this.forgetGone();
    const networks = new Set(sandboxes.all().map(({ network }) => network));
    for (const network of networks) {
      // The disk knows what peers said until a moment ago: nobody need wait for more.
      if (this.#modules.localNetworks.find(network) !== undefined)
        this.#begin(network).waited = true;
      this.#dirty.add(network);
    }
    this.#tell();
    await Promise.all(this.wanted().map((id) => this.#serve(id)));
  }

  async stop(next: "handOver" | "letGo"): Promise<void> {
    this.#stopTelling?.();
    for (const told of this.#told.values()) end(told);
    await this.#modules.server.stop(next);
  }

  /** Containers here that should find names. */
  wanted(): SandboxId[] {
    const names = this.#modules.sandboxes.all().map(({ path }) => sandboxName(path));
    return [...new Set(names)] as SandboxId[];
  }

  /** At Docker's Join: when the container's namespace is there, its names are served with the answer. */
  async join(joined: Joined): Promise<void> {
    const before = this.#modules.sandboxes.of(joined.endpoint);
    if (before?.path !== joined.path) await this.leave(joined.endpoint);
    this.#modules.sandboxes.put(before?.path === joined.path ? { ...before, ...joined } : joined);
    // What was put into the tables just now.
    this.#tell();
    await this.#serve(sandboxName(joined.path) as SandboxId);
  }

  /** Where Docker has an endpoint: its Join was lost with our database. A disk that takes no writes has it found again. */
  found(joined: Joined): void {
    const { sandboxes, localNetworks, log } = this.#modules;
    const { endpoint, network } = joined;
    if (sandboxes.of(endpoint) !== undefined) return;
    if (localNetworks.endpoints(network).some(({ id }) => id === endpoint))
      inBackground(this.join(joined), log, "a container that runs is not served names yet");
  }

  /** What Docker says of an endpoint's container that nobody else is told. */
  inside(endpoint: EndpointId, { links, outside }: Inside): void {
    const { sandboxes, localNetworks } = this.#modules;
    const joined = sandboxes.of(endpoint);
    if (joined === undefined) return;
    const { links: _, outside: __, ...rest } = joined;
    const internal = localNetworks.find(joined.network)?.internal === true;
    const said: Joined = {
      ...rest,
      ...(Object.keys(links).length === 0 ? {} : { links }),
      ...(internal && outside !== undefined
        ? { outside: { ...outside, others: [...outside.others] } }
        : {}),
    };
    if (isDeepStrictEqual(said, joined)) return;
    sandboxes.amend(said);
    // What was put into the tables just now.
    this.#tell();
    void this.#serve(sandboxName(joined.path) as SandboxId);
  }

  /** Names that a network had a moment ago and whose holders are gone: nobody is given for them. */
  gone(network: NetworkId): readonly Holder[] {
    return this.#told.get(network)?.gone.holders() ?? [];
  }

  /** For `status`. */
  counters(): Readonly<Record<string, number>> {
    const told = [...this.#told.values()];
    const goneForgottenEarly = told.reduce((sum, { gone }) => sum + gone.forgottenEarly, 0);
    return { goneForgottenEarly, drifts: this.#drifts };
  }

  /** What was told, by what changed, is compared with what follows from the whole. */
  check(): void {
    for (const [network, { holders }] of this.#told) {
      const changes = holders.correction();
      if (changes === undefined) continue;
      this.#drifts++;
      this.#modules.log.error(
        { network },
        "names were told that are not what documents say; mended",
      );
      this.#modules.server.change([{ kind: "holders", network, ...changes }]);
    }
  }

  /** What containers here call others on the network. */
  links(network: NetworkId): readonly Pick<Joined, "endpoint" | "links">[] {
    return this.#modules.sandboxes
      .all()
      .filter((joined) => joined.network === network && joined.links !== undefined);
  }

  /** Docker has called Join for it, perhaps before this agent started, and not Leave. */
  hasJoined(endpoint: EndpointId): boolean {
    return this.#modules.sandboxes.of(endpoint) !== undefined;
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
    this.#stopTelling ??= this.#modules.timers.after(0, () => this.#tell());
  }

  /** Records, hosts or whom we reach changed: any network here may look different. */
  changed(): void {
    for (const network of this.#known()) this.dirty(network);
  }

  /** Endpoints that went without a Leave of Docker's. */
  async forgetGone(): Promise<void> {
    const { sandboxes, localNetworks } = this.#modules;
    const gone = sandboxes
      .all()
      .filter(
        ({ endpoint, network }) =>
          !localNetworks.endpoints(network).some(({ id }) => id === endpoint),
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
    const { localNetworks, sandboxes } = this.#modules;
    const asking = sandboxes.all().map(({ network }) => network);
    return new Set([...this.#told.keys(), ...localNetworks.hosted(), ...asking]);
  }

  /**
   * As the sandbox stands now; asked twice at once, the second time finds the newest. A container is not
   * refused because of its names: where we cannot answer Docker's resolver does, as without us.
   */
  async #serve(id: SandboxId): Promise<void> {
    const { server } = this.#modules;
    try {
      await this.#serving.run(id, async () => {
        const sandbox = this.#sandbox(id);
        if (sandbox === undefined) await server.withdraw(id);
        else await server.serve(sandbox);
      });
      this.#refused.delete(id);
    } catch (error) {
      this.#refused.set(id, asFailure(error));
    }
    this.#retried.went(notServed(this.#refused));
  }

  #sandbox(id: SandboxId): Sandbox | undefined {
    const { sandboxes, localNetworks } = this.#modules;
    const inside = sandboxes.all().filter(({ path }) => sandboxName(path) === id);
    const [first] = inside;
    if (first === undefined) return undefined;
    const vips = this.#servedVips.of(id);
    const scope = inside.map(({ network, endpoint, links }) => ({
      network,
      endpoint,
      links: links && new Map(Object.entries(links)),
      ...(vips.size === 0 ? {} : { vips }),
    }));
    const internal = scope.every(({ network }) => localNetworks.find(network)?.internal === true);
    const outside = inside.find((joined) => joined.outside !== undefined)?.outside;
    const closed: Closed | undefined =
      !internal || outside?.wayOut === true
        ? undefined
        : { resolvers: outside?.resolvers === true, others: outside?.others };
    return { id, path: first.path, scope, closed };
  }

  #tell(): void {
    this.#stopTelling?.();
    this.#stopTelling = undefined;
    const changes = [...this.#dirty].flatMap((network) => this.#changes(network));
    this.#dirty.clear();
    if (changes.length > 0) this.#modules.server.change(changes);
  }

  #changes(network: NetworkId): TableChange[] {
    const { localNetworks, replication, lost, clock } = this.#modules;
    const record = localNetworks.find(network);
    const told = this.#told.get(network);
    if (record === undefined || !this.#isHere(network)) {
      if (told === undefined) return [];
      end(told);
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
    const vips = vipsOn(replication.tables.state, network);
    if (vips !== held.vips) {
      if (vips.length + held.vips.length > 0)
        changes.push({
          kind: "vips",
          network,
          vips: vips.map((vip) => ({ name: vip.name, ips: vip.ips })),
        });
      held.vips = vips;
    }
    const here = namedHosts(replication.tables, record, lost(record.encryption));
    const { put, remove } = held.holders.change(here, (changed) =>
      held.gone.after(changed, clock.nowMs()),
    );
    this.#forgetLater(network, held);
    if (put.length + remove.length > 0) changes.push({ kind: "holders", network, put, remove });
    return changes;
  }

  #begin(network: NetworkId): Told {
    const stopWaiting = this.#modules.timers.after(this.#times.completeAfterMs, () => {
      told.waited = true;
      this.dirty(network);
    });
    const told: Told = {
      stopWaiting,
      waited: false,
      info: undefined,
      vips: [],
      holders: new ToldHolders(),
      gone: new GoneNames(this.#times.rememberedMs),
      stopForgetting: undefined,
    };
    this.#told.set(network, told);
    return told;
  }

  #forgetLater(network: NetworkId, told: Told): void {
    const { clock, timers } = this.#modules;
    told.stopForgetting?.();
    const nextMs = told.gone.nextMs();
    if (nextMs === undefined) return;
    const waitMs = Math.max(1, Math.ceil(nextMs - clock.nowMs()));
    told.stopForgetting = timers.after(waitMs, () => this.dirty(network));
  }

  #isHere(network: NetworkId): boolean {
    const { localNetworks } = this.#modules;
    return localNetworks.hosted().includes(network) || localNetworks.endpoints(network).length > 0;
  }

  #complete(network: NetworkId, { waited }: Told): boolean {
    return waited || this.#modules.replication.isComplete(network);
  }
}

function end({ stopWaiting, stopForgetting }: Told): void {
  stopWaiting();
  stopForgetting?.();
}

function notServed(refused: ReadonlyMap<SandboxId, Failure>): Failure | undefined {
  const [first] = refused;
  if (first === undefined) return undefined;
  const [id, { code, message, next }] = first;
  const where =
    refused.size === 1 ? `sandbox ${id}` : `${refused.size} sandboxes, ${id} among them`;
  return {
    code,
    message: `names are not served in ${where}: ${message}`,
    next: next ?? "its containers have Docker's own names; it is tried again every minute",
  };
}
