import { claimedAddresses, familiesOf } from "../../shared/documents.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import { asFailure, type Failure, OverlayError } from "../../shared/errors.ts";
import type { Log } from "../../shared/ports.ts";
import type { Leases } from "./leases.ts";
import { containersOf } from "./forget-endpoint.ts";
import type { LocalNetworks } from "./local-networks.ts";
import type { Kernel } from "../kernel/port.ts";
import type { Replication } from "../replication/replication.ts";
import { RetriedWork } from "../../shared/node/retried-work.ts";

export interface EndpointRecoveryModules {
  readonly self: NodeId;
  /** Another one each time the machine starts. */
  readonly bootId: string;
  readonly kernel: Pick<Kernel, "list" | "read">;
  readonly replication: Pick<Replication, "tables" | "stateIsFresh" | "change">;
  readonly leases: Pick<Leases, "adopt" | "release">;
  readonly localNetworks: Pick<LocalNetworks, "endpoints" | "adopt" | "enterAgain" | "notUsed">;
  /** What the kernel should hold of the network is known now. */
  readonly lookedAt: (network: NetworkId) => void;
  /** `failure` says something else. */
  readonly failureChanged?: () => void;
  readonly log: Log;
}

/** On a network that the kernel has, `unsaid`: something that our document did not say. */
type Runs = "unsaid" | "said" | "nothing";

/**
 * What an agent finds at its start and its documents do not say: ports of containers that run on, and
 * were lost with the database. And the other way round: endpoints of containers that ended with the machine.
 */
export class EndpointRecovery {
  readonly #modules: EndpointRecoveryModules;
  /** Networks found in the kernel at the start that were not looked at yet. */
  #waiting: readonly NetworkId[] = [];
  /** Of these, what is read now: who asks meanwhile waits for the same reading. */
  readonly #reading = new Map<NetworkId, Promise<Runs>>();
  #isListed = false;
  readonly #retried: RetriedWork;

  constructor(modules: EndpointRecoveryModules) {
    this.#modules = modules;
    this.#retried = new RetriedWork((failure) => {
      if (failure !== undefined)
        modules.log.warn({ ...failure }, "recovery of running containers failed; tried again");
      modules.failureChanged?.();
    });
  }

  /** Why containers that are in the kernel are not said to be there. */
  failure(): Failure | undefined {
    return this.#retried.failure();
  }

  /**
   * The machine was started anew since our own document was written: no container of then runs, and
   * their addresses must be free before Docker starts them again. The host's own interfaces stay wanted.
   */
  forgetLastBoot(): void {
    const { self, bootId, replication, leases, localNetworks, log } = this.#modules;
    const said = replication.tables.hosts.get(self)?.bootId;
    if (said === undefined || said === bootId) return;
    for (const network of this.#known()) {
      const gone = containersOf(localNetworks.endpoints(network));
      if (gone.length === 0) continue;
      log.info(
        { network, endpoints: gone.length },
        "removed endpoints of containers that ended with the last boot",
      );
      replication.change(
        network,
        [],
        gone.map(({ id }) => id),
      );
      for (const ip of gone.flatMap(claimedAddresses)) leases.release(network, ip);
    }
  }

  /** Before anything is written to the kernel. @throws NETLINK */
  async start(): Promise<void> {
    this.#waiting = await this.#modules.kernel.list();
    this.#isListed = true;
    await this.adopt();
  }

  /** No state has told us of them yet, or they could not be read: containers may run there. */
  waiting(): readonly NetworkId[] {
    return this.#waiting;
  }

  /** Containers may run there that no document of ours names: also as long as the kernel was not asked. */
  isWaiting(network: NetworkId): boolean {
    return !this.#isListed || this.#waiting.includes(network);
  }

  /**
   * Ports in the kernel that our documents do not know: the database was lost, the containers run
   * on. What the ports say of themselves is said again; Docker's list takes away what is not so. Several parts ask
   * for it at a start: each network is read once for all of them.
   * @throws NETLINK, FULL: what could not be read or said goes on waiting.
   */
  adopt(): Promise<void> {
    return this.#retried.through(() => this.#adopt());
  }

  /**
   * What runs here of the network is known, and with it which addresses are taken: before one is given.
   * @throws NETLINK: they could not be read
   */
  async adopted(network: NetworkId): Promise<void> {
    if (!this.isWaiting(network)) return;
    // What is wrong with another network is none of this one's.
    const failed = await this.adopt().then(
      () => undefined,
      (error: unknown) => asFailure(error),
    );
    if (!this.isWaiting(network)) return;
    throw new OverlayError({
      code: "NETLINK",
      message: `which containers of network ${network} run on this host is not known: ${failed?.message ?? "no state names it"}`,
      next: "try again; see `overlay-ts status`",
    });
  }

  async #adopt(): Promise<void> {
    const known = this.#known();
    // An old state may not know them yet: they are looked at again with the next.
    for (const network of this.#waiting.filter((waiting) => known.has(waiting))) {
      const underWay = this.#reading.get(network);
      if (underWay !== undefined) await underWay;
      // Another call may have looked at it since this one began.
      else if (this.#waiting.includes(network)) await this.#lookAt(network);
    }
  }

  async #lookAt(network: NetworkId): Promise<void> {
    const { localNetworks, lookedAt } = this.#modules;
    const reading = this.#read(network).finally(() => this.#reading.delete(network));
    this.#reading.set(network, reading);
    const runs = await reading;
    if (runs === "unsaid") await localNetworks.enterAgain(network);
    else if (runs === "nothing") localNetworks.notUsed(network);
    lookedAt(network);
  }

  /** What runs there and was not said is said again. */
  async #read(network: NetworkId): Promise<Runs> {
    const { kernel, leases, localNetworks } = this.#modules;
    const { ports } = await kernel.read(network);
    const held = new Set(localNetworks.endpoints(network).map(({ id }) => id));
    const lost = ports.filter(({ endpoint }) => !held.has(endpoint));
    for (const { endpoint, mac, ips, host } of lost) {
      // The link-local one follows from the MAC.
      const claimed = ips.filter((ip) => !ip.startsWith("fe80:"));
      const role = host === undefined ? {} : { role: "host" as const };
      localNetworks.adopt(network, { id: endpoint, ...familiesOf(claimed), mac, ...role });
      for (const ip of claimed) leases.adopt(network, ip);
    }
    // Only now: what could not be read, or said, is adopted with the next round.
    this.#waiting = this.#waiting.filter((other) => other !== network);
    if (lost.length > 0) return "unsaid";
    return held.size > 0 ? "said" : "nothing";
  }

  /**
   * Networks in the kernel that the state does not know after all this time have ended. Not sooner: with
   * a lost database the first peer that was asked may know as little, and the ports of containers that
   * run cannot be put back.
   */
  giveUpUnknown(): void {
    const { replication, localNetworks, lookedAt } = this.#modules;
    if (!replication.stateIsFresh()) return;
    const known = this.#known();
    const gone = this.#waiting.filter((network) => !known.has(network));
    this.#waiting = this.#waiting.filter((network) => known.has(network));
    for (const network of gone) {
      localNetworks.notUsed(network);
      lookedAt(network);
    }
  }

  #known(): ReadonlySet<NetworkId> {
    const { state } = this.#modules.replication.tables;
    return new Set(state?.networks.map(({ id }) => id));
  }
}
