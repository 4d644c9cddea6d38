import { asFailure, OverlayError } from "../shared/errors.ts";
import type { NetworkRecord } from "../shared/cluster-state.ts";
import type { Endpoint } from "../shared/documents.ts";
import type { EndpointId, NetworkId, NodeId } from "../shared/ids.ts";
import type { Log } from "../shared/ports.ts";
import { largestMtuBytes, tooLargeFor } from "../shared/mtu.ts";
import { openSealed } from "../shared/sealed-box.ts";
import { oneLine } from "../shared/text.ts";
import type { SealedKey } from "../controller/wire/messages.ts";
import type { ControllerLink } from "./controller-link.ts";
import type { HostFacts } from "./core/cluster-replica.ts";
import type { Replication } from "./replication.ts";
import type { SavedTables } from "./saved-tables.ts";

export interface HostingModules {
  readonly replication: Replication;
  readonly saved: SavedTables;
  readonly controller: Pick<ControllerLink, "request">;
  readonly sealSecretKey: Uint8Array;
  readonly log: Log;
  /** What this host says of itself, beside its networks. Undefined: it was removed from the cluster. */
  readonly facts: () => Omit<HostFacts, "hosting" | "needs"> | undefined;
}

const AGAIN_MS = 2000;

/**
 * Which networks this host is on: from just before its first endpoint until a while after its
 * last. Hosting is topic, documents and a word in the host's own document; devices follow from it.
 */
export class Hosting {
  readonly #node: NodeId;
  readonly #modules: HostingModules;
  readonly #lingerMs: number;
  /** As said in the host document. */
  readonly #hosted = new Set<NetworkId>();
  /** On its topic. */
  readonly #joined = new Set<NetworkId>();
  readonly #entering = new Map<NetworkId, Promise<void>>();
  readonly #leaving = new Map<NetworkId, NodeJS.Timeout>();
  /** Networks that containers here refer to, running or stopped; undefined: Docker was not asked yet. */
  #referred: ReadonlySet<NetworkId> | undefined;
  #started = false;
  /** To be entered again. */
  readonly #again = new Map<NetworkId, NodeJS.Timeout>();

  constructor(node: NodeId, modules: HostingModules, lingerMs = 10_000) {
    this.#node = node;
    this.#modules = modules;
    this.#lingerMs = lingerMs;
  }

  /**
   * Networks that had endpoints when the agent stopped are entered again, with what disk knows. `found`:
   * in the kernel, and in no document of ours. Until it was looked what runs there we are on them: said
   * otherwise, peers would take away what they hold of our containers.
   */
  async start(found: readonly NetworkId[]): Promise<void> {
    const { replication } = this.#modules;
    const networks = (replication.tables.state?.networks ?? []).map(({ id }) => id);
    const busy = networks.filter((network) => this.endpoints(network).length > 0);
    for (const network of [...busy, ...found]) this.#hosted.add(network);
    // Until Docker can be asked: stopped containers have not gone by our being away.
    const needs = replication.tables.hosts.get(this.#node)?.needs;
    if (needs !== undefined) this.#referred = new Set(needs);
    this.#started = true;
    this.say();
    await Promise.all(busy.map((network) => this.enterAgain(network)));
  }

  stop(): void {
    for (const timers of [this.#again, this.#leaving])
      for (const timer of timers.values()) clearTimeout(timer);
  }

  has(network: NetworkId): boolean {
    return this.#hosted.has(network);
  }

  hosted(): NetworkId[] {
    return [...this.#hosted];
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
      next: `make the network again with -o mtu=${most}, or give the interface a larger MTU, \`leave\` and join`,
    });
  }

  /** On the topic and known as a host of it. Asked again while under way it is the same entering. */
  enter(network: NetworkId): Promise<void> {
    clearTimeout(this.#leaving.get(network));
    this.#leaving.delete(network);
    if (this.#joined.has(network)) return Promise.resolve();
    let entering = this.#entering.get(network);
    if (entering === undefined) {
      entering = this.#enter(network).finally(() => this.#entering.delete(network));
      this.#entering.set(network, entering);
    }
    return entering;
  }

  /** The state changed: a key that was rotated is fetched, the old one goes on opening for a while. */
  async rekey(): Promise<void> {
    for (const network of this.#joined) {
      const record = this.find(network);
      const held = this.#modules.saved.key(network);
      if (record === undefined || (held !== undefined && held.epoch >= record.keyEpoch)) continue;
      await this.#modules.replication.join(network, await this.#key(network));
    }
  }

  /** @throws FULL, STORE: it is not to be. */
  put(network: NetworkId, endpoint: Endpoint): void {
    this.#modules.replication.begin(network, endpoint);
    this.#needed(network);
  }

  /** It is there, whatever the disk takes. */
  adopt(network: NetworkId, endpoint: Endpoint): void {
    this.#modules.replication.change(network, [endpoint], []);
    this.#needed(network);
  }

  #needed(network: NetworkId): void {
    // The network must not end meanwhile, wherever somebody removes it.
    if (this.#referred?.has(network) === false) this.refer(new Set([...this.#referred, network]));
  }

  /** Something else is said of endpoints that are there; those that went meanwhile stay gone. */
  amend(network: NetworkId, amended: readonly Endpoint[]): void {
    const here = new Set(this.endpoints(network).map(({ id }) => id));
    const put = amended.filter(({ id }) => here.has(id));
    if (put.length > 0) this.#modules.replication.change(network, put, []);
  }

  /** What this engine's containers refer to, as it stands now. */
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

  /** Entered for an endpoint that did not come. */
  notUsed(network: NetworkId): void {
    this.#lingerIfEmpty(network);
  }

  /** A key that came with another answer: kept, so that the next start needs no controller. */
  keyCame(network: NetworkId, { epoch, sealed }: SealedKey): void {
    const key = openSealed(this.#modules.sealSecretKey, sealed);
    this.#modules.saved.saveKey(network, { epoch, key });
  }

  /** Containers run here: until it succeeds, also when the controller is the last to come up. */
  async enterAgain(network: NetworkId): Promise<void> {
    clearTimeout(this.#again.get(network));
    try {
      await this.enter(network);
      // They may have gone meanwhile, and entering kept the network from being left.
      this.#lingerIfEmpty(network);
    } catch (error) {
      this.#modules.log.warn({ network, ...asFailure(error) }, "not entered again yet");
      clearTimeout(this.#again.get(network));
      const timer = setTimeout(() => void this.enterAgain(network), AGAIN_MS);
      this.#again.set(network, timer);
    }
  }

  async #enter(network: NetworkId): Promise<void> {
    await this.#modules.replication.join(network, await this.#key(network));
    this.#joined.add(network);
    this.#hosted.add(network);
    this.say();
    this.#lingerIfEmpty(network);
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

  #lingerIfEmpty(network: NetworkId): void {
    if (this.endpoints(network).length > 0 || this.#leaving.has(network)) return;
    if (!this.#hosted.has(network)) return;
    // The next container of a short-lived series finds everything in place.
    const timer = setTimeout(() => {
      this.#leaving.delete(network);
      void this.#leave(network);
    }, this.#lingerMs);
    this.#leaving.set(network, timer);
  }

  async #leave(network: NetworkId): Promise<void> {
    if (this.endpoints(network).length > 0) return;
    this.#hosted.delete(network);
    this.#joined.delete(network);
    this.say();
    try {
      await this.#modules.replication.leave(network);
    } catch (error) {
      this.#modules.log.warn({ network, ...asFailure(error) }, "topic not left");
    }
  }

  /** The host document as it should be now; nothing when that is what it says already. */
  say(): void {
    const facts = this.#modules.facts();
    // Before the start it would be half a word: peers would drop what our containers send.
    if (facts === undefined || !this.#started) return;
    const { replication } = this.#modules;
    const busy = [...this.#hosted].filter((network) => this.endpoints(network).length > 0);
    const needs = this.#referred && [...new Set([...this.#referred, ...busy])];
    replication.say({ ...facts, hosting: [...this.#hosted], needs });
  }
}
