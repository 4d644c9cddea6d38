import { type Failure, OverlayError } from "../../shared/errors.ts";
import type { NetworkRecord } from "../../shared/cluster-state.ts";
import type { Endpoint } from "../../shared/documents.ts";
import type { EndpointId, NetworkId, NodeId } from "../../shared/ids.ts";
import type { Log, Timers } from "../../shared/ports.ts";
import { largestMtuBytes, tooLargeFor } from "../../shared/mtu.ts";
import { openSealed } from "../../shared/sealed-box.ts";
import { oneLine } from "../../shared/text.ts";
import type { SealedKey } from "../../controller/wire/messages.ts";
import type { ControllerLink } from "../membership/controller-link.ts";
import type { HostFacts } from "../core/tables/cluster-replica.ts";
import type { Replication } from "../replication/replication.ts";
import type { SavedTables } from "../replication/saved-tables.ts";
import { RetriedWork } from "../../shared/node/retried-work.ts";

export interface LocalNetworksModules {
  readonly replication: Replication;
  readonly saved: SavedTables;
  readonly controller: Pick<ControllerLink, "request">;
  readonly sealSecretKey: Uint8Array;
  readonly timers: Timers;
  readonly log: Log;
  /** The host document without its networks. Undefined: the host was removed from the cluster. */
  readonly facts: () => Omit<HostFacts, "hosting" | "needs"> | undefined;
  /** The result of `failures` changed. */
  readonly failureChanged?: () => void;
}

const AGAIN_MS = 2000;
export const LINGER_MS = 10_000;

/** What this host has of a network that it is on, enters or leaves. */
interface LocalNetwork {
  /**
   * `hosted`: named in the host document, so that peers keep paths to this host. `joined`: on the gossip topic too.
   */
  phase: "outside" | "hosted" | "joined";
  /** Under way; who enters meanwhile waits for the same. */
  entering: Promise<void> | undefined;
  /** Callers of `stayOn`: each may be about to bring an endpoint. */
  staying: number;
  /** From when the last endpoint went until the network is left. */
  stopLeaving: (() => void) | undefined;
  /** From when entering failed until it is tried again. */
  stopRetrying: (() => void) | undefined;
  /** Entering the network, and fetching a new key. */
  readonly tried: RetriedWork;
}

/**
 * Which networks this host is on: from just before its first endpoint until a while after its
 * last. That is the gossip topic, the documents and an entry in the host document; devices follow from it.
 */
export class LocalNetworks {
  readonly #node: NodeId;
  readonly #modules: LocalNetworksModules;
  readonly #lingerMs: number;
  readonly #networks = new Map<NetworkId, LocalNetwork>();
  /** Networks that containers here refer to, running or stopped; undefined: Docker was not asked yet. */
  #referred: ReadonlySet<NetworkId> | undefined;
  #started = false;

  constructor(node: NodeId, modules: LocalNetworksModules, lingerMs = LINGER_MS) {
    this.#node = node;
    this.#modules = modules;
    this.#lingerMs = lingerMs;
  }

  /**
   * Networks that had endpoints when the agent stopped are entered again, with the keys on disk. `found`: networks
   * in the kernel that were not looked at yet. They count as hosted until their containers are known: peers
   * would delete their entries for these containers otherwise.
   */
  async start(found: readonly NetworkId[]): Promise<void> {
    const { replication } = this.#modules;
    const networks = (replication.tables.state?.networks ?? []).map(({ id }) => id);
    const busy = networks.filter((network) => this.endpoints(network).length > 0);
    for (const network of [...busy, ...found]) this.#local(network).phase = "hosted";
    // Until Docker can be asked: stopped containers have not gone by our being away.
    const needs = replication.tables.hosts.get(this.#node)?.needs;
    if (needs !== undefined) this.#referred = new Set(needs);
    this.#started = true;
    this.say();
    await Promise.all(busy.map((network) => this.enterAgain(network)));
  }

  stop(): void {
    for (const { stopLeaving, stopRetrying } of this.#networks.values()) {
      stopLeaving?.();
      stopRetrying?.();
    }
  }

  /** Leaves all networks, and tells the other hosts. */
  async withdraw(): Promise<void> {
    this.stop();
    const joined = this.#inPhase("joined");
    this.#networks.clear();
    this.#referred = new Set();
    this.say();
    for (const network of joined) await this.#leaveTopic(network);
  }

  has(network: NetworkId): boolean {
    return (this.#networks.get(network)?.phase ?? "outside") !== "outside";
  }

  hosted(): NetworkId[] {
    return this.#inPhase("hosted", "joined");
  }

  endpoints(network: NetworkId): readonly Endpoint[] {
    return this.#modules.replication.tables.documents(network).get(this.#node)?.endpoints ?? [];
  }

  /** @throws NOT_FOUND when the cluster has no such network. */
  record(network: NetworkId): NetworkRecord {
    const record = this.find(network);
    if (record !== undefined) return record;
    throw new OverlayError({
      code: "NOT_FOUND",
      message: `the cluster has no network ${oneLine(network, 64)} (any more)`,
      next: "see `overlay-ts network ls`; remove the engine's leftover with `docker network rm`",
    });
  }

  find(network: NetworkId): NetworkRecord | undefined {
    return this.#modules.replication.tables.state?.networks.find(({ id }) => id === network);
  }

  /** @throws UNSUPPORTED when this host's underlay is too small for the network. */
  requireFit(record: NetworkRecord): void {
    const { state } = this.#modules.replication.tables;
    const underlay = state?.nodes.find(({ id }) => id === this.#node)?.underlayMtuBytes;
    if (state === undefined || underlay === undefined) return;
    if (!tooLargeFor(state, underlay).includes(record)) return;
    const most = largestMtuBytes(state.settings, underlay, record.encryption);
    throw new OverlayError({
      code: "UNSUPPORTED",
      message: `network ${record.name ?? record.id} has an MTU of ${record.mtuBytes}, and this host's underlay of ${underlay} bytes carries ${most} at most`,
      next: `make the network again with -o mtu=${most}, or give the interface a larger MTU`,
    });
  }

  /** Joins the network's topic and names it in the host document. A call while one is under way waits for that one. */
  enter(network: NetworkId): Promise<void> {
    const local = this.#local(network);
    local.stopLeaving?.();
    local.stopLeaving = undefined;
    if (local.phase === "joined") return Promise.resolve();
    local.entering ??= this.#enter(network, local).finally(() => {
      local.entering = undefined;
      this.#lingerIfEmpty(network);
    });
    return local.entering;
  }

  /**
   * Enters, and stays on the network while `work` runs, however long that takes: an endpoint is put when its encryption
   * stands, which may be later than a network without endpoints is left.
   */
  async stayOn<T>(network: NetworkId, work: () => Promise<T>): Promise<T> {
    const local = this.#local(network);
    local.staying++;
    try {
      await this.enter(network);
      return await work();
    } finally {
      local.staying--;
      this.#lingerIfEmpty(network);
    }
  }

  /** The state changed: fetches rotated keys; messages under the old key are still opened for a while. */
  async rekey(): Promise<void> {
    for (const network of this.#inPhase("joined")) {
      const record = this.find(network);
      const held = this.#modules.saved.key(network);
      if (record === undefined || (held !== undefined && held.epoch >= record.keyEpoch)) continue;
      const fetching = async (): Promise<void> =>
        this.#modules.replication.join(network, await this.#key(network));
      // `tried` has logged it, and the other networks need their keys all the same.
      await this.#local(network)
        .tried.through(fetching)
        .catch(() => {});
    }
  }

  /** Networks that could not be entered, or whose new key could not be fetched. */
  failures(): { network: NetworkId; failure: Failure }[] {
    return [...this.#networks].flatMap(([network, { tried }]) => {
      const failure = tried.failure();
      return failure === undefined ? [] : [{ network, failure }];
    });
  }

  /** @throws FULL, STORE; CONFLICT when this host is not on the network: peers would have no path to the endpoint. */
  put(network: NetworkId, endpoint: Endpoint): void {
    if (!this.has(network))
      throw new OverlayError({
        code: "CONFLICT",
        message: `this host has left network ${this.record(network).name ?? network} meanwhile`,
        next: "try again",
      });
    this.#modules.replication.begin(network, endpoint);
    this.#needed(network);
  }

  /** An endpoint that runs: added even when the disk is full. */
  adopt(network: NetworkId, endpoint: Endpoint): void {
    this.#modules.replication.change(network, [endpoint], []);
    this.#needed(network);
  }

  #needed(network: NetworkId): void {
    // The network must not end meanwhile, wherever somebody removes it.
    if (this.#referred?.has(network) === false) this.refer(new Set([...this.#referred, network]));
  }

  /** Changes endpoints that are there; those that were removed meanwhile stay removed. */
  amend(network: NetworkId, amended: readonly Endpoint[]): void {
    const here = new Set(this.endpoints(network).map(({ id }) => id));
    const put = amended.filter(({ id }) => here.has(id));
    if (put.length > 0) this.#modules.replication.change(network, put, []);
  }

  /** Networks that this engine's containers refer to, running or stopped. */
  refer(networks: ReadonlySet<NetworkId>): void {
    this.#referred = networks;
    this.say();
  }

  /** An endpoint that is not there is gone already. After the last one the network lingers. */
  remove(network: NetworkId, endpoint: EndpointId): void {
    if (this.endpoints(network).some(({ id }) => id === endpoint))
      this.#modules.replication.change(network, [], [endpoint]);
    this.#lingerIfEmpty(network);
  }

  /** Entered for endpoints that are not there. */
  notUsed(network: NetworkId): void {
    this.#lingerIfEmpty(network);
  }

  /** Saves a key that came with the controller's answer, so that the next start needs no controller. */
  keyCame(network: NetworkId, { epoch, sealed }: SealedKey): void {
    const key = openSealed(this.#modules.sealSecretKey, sealed);
    this.#modules.saved.saveKey(network, { epoch, key });
  }

  /** Enters, and tries again while containers of the network run here: the controller may come up last. */
  async enterAgain(network: NetworkId): Promise<void> {
    const { timers } = this.#modules;
    const local = this.#local(network);
    local.stopRetrying?.();
    try {
      await local.tried.through(() => this.enter(network));
    } catch {
      // `tried` has logged it.
      local.stopRetrying?.();
      if (this.endpoints(network).length > 0)
        local.stopRetrying = timers.after(AGAIN_MS, () => void this.enterAgain(network));
    }
    // The containers may have gone meanwhile, and `enter` stopped the timer.
    this.#lingerIfEmpty(network);
  }

  async #enter(network: NetworkId, local: LocalNetwork): Promise<void> {
    await this.#modules.replication.join(network, await this.#key(network));
    local.phase = "joined";
    this.say();
  }

  async #key(network: NetworkId): Promise<Uint8Array> {
    const { saved, controller } = this.#modules;
    const { keyEpoch } = this.record(network);
    const held = saved.key(network);
    if (held !== undefined && held.epoch >= keyEpoch) return held.key;
    const { key } = await controller.request({ v: 1, kind: "networkKey", network }, "key");
    this.keyCame(network, key);
    return openSealed(this.#modules.sealSecretKey, key.sealed);
  }

  /** Without endpoints nothing is entered again, and the network is left after a while. */
  #lingerIfEmpty(network: NetworkId): void {
    const local = this.#networks.get(network);
    if (local === undefined || this.#isUsed(network, local)) return;
    local.stopRetrying?.();
    if (local.phase === "outside") {
      if (local.entering === undefined) this.#forget(network, local);
      return;
    }
    // The next container of a short-lived series finds everything in place.
    local.stopLeaving ??= this.#modules.timers.after(this.#lingerMs, () => {
      local.stopLeaving = undefined;
      void this.#leave(network, local);
    });
  }

  async #leave(network: NetworkId, local: LocalNetwork): Promise<void> {
    if (this.#isUsed(network, local) || local.entering !== undefined) return;
    this.#forget(network, local);
    this.say();
    await this.#leaveTopic(network);
  }

  #isUsed(network: NetworkId, { staying }: LocalNetwork): boolean {
    return staying > 0 || this.endpoints(network).length > 0;
  }

  #forget(network: NetworkId, { tried }: LocalNetwork): void {
    this.#networks.delete(network);
    tried.went(undefined);
  }

  async #leaveTopic(network: NetworkId): Promise<void> {
    try {
      await this.#modules.replication.leave(network);
    } catch (error) {
      this.#modules.log.warn(
        { network, err: error },
        "could not leave the network's gossip topic; its messages still come, and are ignored",
      );
    }
  }

  /** Publishes the host document; does nothing when it is unchanged. */
  say(): void {
    const facts = this.#modules.facts();
    // Before the start the document would be incomplete: peers would drop packets of this host's containers.
    if (facts === undefined || !this.#started) return;
    const { replication } = this.#modules;
    const hosting = this.hosted();
    const busy = hosting.filter((network) => this.endpoints(network).length > 0);
    const needs = this.#referred && [...new Set([...this.#referred, ...busy])];
    replication.say({ ...facts, hosting, needs });
  }

  #inPhase(...wanted: LocalNetwork["phase"][]): NetworkId[] {
    const found = [...this.#networks].filter(([, { phase }]) => wanted.includes(phase));
    return found.map(([network]) => network);
  }

  #local(network: NetworkId): LocalNetwork {
    let local = this.#networks.get(network);
    if (local === undefined) this.#networks.set(network, (local = this.#newLocal(network)));
    return local;
  }

  #newLocal(network: NetworkId): LocalNetwork {
    const { log, failureChanged } = this.#modules;
    const tried = new RetriedWork((failure) => {
      if (failure !== undefined)
        log.warn(
          { network, ...failure },
          "entering the network, or its new key, failed; tried again",
        );
      failureChanged?.();
    });
    return {
      phase: "outside",
      entering: undefined,
      staying: 0,
      stopLeaving: undefined,
      stopRetrying: undefined,
      tried,
    };
  }
}
