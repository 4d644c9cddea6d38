import { claimedAddresses, familiesOf } from "../shared/documents.ts";
import type { NetworkId, NodeId } from "../shared/ids.ts";
import type { Log } from "../shared/ports.ts";
import type { Bindings } from "./bindings.ts";
import { containersOf } from "./forgetting.ts";
import type { Hosting } from "./hosting.ts";
import type { Kernel } from "./kernel/port.ts";
import type { Reconciler } from "./reconciler.ts";
import type { Replication } from "./replication.ts";

export interface AdoptionModules {
  readonly self: NodeId;
  /** Another one each time the machine starts. */
  readonly bootId: string;
  readonly kernel: Pick<Kernel, "list" | "read">;
  readonly replication: Pick<Replication, "tables" | "stateIsFresh" | "change">;
  readonly bindings: Pick<Bindings, "adopt" | "release">;
  readonly hosting: Pick<Hosting, "endpoints" | "adopt" | "enterAgain" | "notUsed">;
  readonly reconciler: Pick<Reconciler, "dirty">;
  readonly log: Log;
}

/**
 * What an agent finds at its start and its documents do not say: ports of containers that run on, and
 * were lost with the database. And the other way round: endpoints of containers that ended with the machine.
 */
export class Adoption {
  readonly #modules: AdoptionModules;
  /** Networks found in the kernel at the start that were not looked at yet. */
  #waiting: readonly NetworkId[] = [];

  constructor(modules: AdoptionModules) {
    this.#modules = modules;
  }

  /**
   * The machine was started anew since our own document was written: no container of then runs, and
   * their addresses must be free before Docker starts them again. The host's own interfaces stay wanted.
   */
  forgetLastBoot(): void {
    const { self, bootId, replication, bindings, hosting, log } = this.#modules;
    const said = replication.tables.hosts.get(self)?.bootId;
    if (said === undefined || said === bootId) return;
    for (const network of this.#known()) {
      const gone = containersOf(hosting.endpoints(network));
      if (gone.length === 0) continue;
      log.info({ network, endpoints: gone.length }, "gone with the last boot");
      replication.change(
        network,
        [],
        gone.map(({ id }) => id),
      );
      for (const ip of gone.flatMap(claimedAddresses)) bindings.release(network, ip);
    }
  }

  /** Before anything is written to the kernel. @throws NETLINK */
  async start(): Promise<void> {
    const { kernel, hosting } = this.#modules;
    const found = await kernel.list();
    this.#waiting = found.filter((network) => hosting.endpoints(network).length === 0);
    await this.adopt();
  }

  /** No state has told us of them yet, or they could not be read: containers may run there. */
  waiting(): readonly NetworkId[] {
    return this.#waiting;
  }

  /**
   * Ports in the kernel that our documents do not know: the database was lost, the containers run
   * on. What the ports say of themselves is said again; Docker's list takes away what is not so.
   * @throws NETLINK, FULL: what could not be read or said goes on waiting.
   */
  async adopt(): Promise<void> {
    const { kernel, bindings, hosting, reconciler } = this.#modules;
    const known = this.#known();
    // An old state may not know them yet: they are looked at again with the next.
    const now = this.#waiting.filter((network) => known.has(network));
    for (const network of now) {
      const { ports } = await kernel.read(network);
      const held = new Set(hosting.endpoints(network).map(({ id }) => id));
      for (const { endpoint, mac, ips, host } of ports) {
        if (held.has(endpoint)) continue;
        // The link-local one follows from the MAC.
        const claimed = ips.filter((ip) => !ip.startsWith("fe80:"));
        const role = host === undefined ? {} : { role: "host" as const };
        hosting.adopt(network, { id: endpoint, ...familiesOf(claimed), mac, ...role });
        for (const ip of claimed) bindings.adopt(network, ip);
      }
      // Only now: what could not be read, or said, is adopted with the next round.
      this.#waiting = this.#waiting.filter((other) => other !== network);
      if (ports.length > 0) await hosting.enterAgain(network);
      else hosting.notUsed(network);
      reconciler.dirty(network);
    }
  }

  /**
   * Networks in the kernel that the state does not know after all this time have ended. Not sooner: with
   * a lost database the first peer that was asked may know as little, and the ports of containers that
   * run cannot be put back.
   */
  giveUpUnknown(): void {
    const { replication, hosting, reconciler } = this.#modules;
    if (!replication.stateIsFresh()) return;
    const known = this.#known();
    const gone = this.#waiting.filter((network) => !known.has(network));
    this.#waiting = this.#waiting.filter((network) => known.has(network));
    for (const network of gone) {
      hosting.notUsed(network);
      reconciler.dirty(network);
    }
  }

  #known(): ReadonlySet<NetworkId> {
    const { state } = this.#modules.replication.tables;
    return new Set(state?.networks.map(({ id }) => id));
  }
}
