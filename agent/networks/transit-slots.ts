import { z } from "zod";
import type { NetworkRecord } from "../../shared/cluster-state.ts";
import type { Failure } from "../../shared/errors.ts";
import { NetworkId } from "../../shared/ids.ts";
import { type Cidr, cidrOverlaps, familyOf } from "../../shared/ip.ts";
import {
  isTransitLink,
  slotsIn,
  transitOf,
  type TransitPools,
} from "../core/data-plane/transit.ts";
import type { Transit } from "../core/data-plane/kernel-state.ts";
import { recordOf } from "../../shared/records.ts";
import type { Tables } from "../core/tables/tables.ts";
import type { Disk } from "../store/disk.ts";

const Slot = z.object({ network: NetworkId, slot: z.int().nonnegative() });
const PREFIX = "transit/";

export interface TransitSlotsModules {
  /** Undefined: containers leave by docker_gwbridge only. */
  readonly pools: TransitPools | undefined;
  readonly tables: Pick<Tables, "state">;
  readonly hostSubnets: () => readonly { link: string; subnet: Cidr }[];
  readonly disk: Disk;
}

/**
 * Which addresses a network's transit has on this host: kept for as long as the network is, for connections that are
 * open know them.
 */
export class TransitSlots {
  readonly #modules: TransitSlotsModules;
  readonly #slots = new Map<NetworkId, number>();
  #failure: Failure | undefined;
  /** It was looked in vain, and nothing has changed since. */
  #isVain = false;

  constructor(modules: TransitSlotsModules) {
    this.#modules = modules;
    for (const { network, slot } of modules.disk.list(PREFIX, Slot)) this.#slots.set(network, slot);
  }

  /** Undefined: the network has none here. */
  of({ id, internal, subnets }: NetworkRecord): Transit | undefined {
    const { pools } = this.#modules;
    if (internal || pools === undefined) return undefined;
    const families = subnets.map(({ subnet }) => familyOf(subnet));
    // Docker's own bridge is the way out over IPv4, whatever the network has.
    if (!families.includes(4)) return undefined;
    const held = this.#slots.get(id) ?? Infinity;
    // Of a larger pool before: another one, as all its addresses are others.
    const isHeld = held < slotsIn(pools);
    const slot = isHeld ? held : this.#isVain ? undefined : this.#take(id, pools);
    return slot === undefined ? undefined : transitOf(pools, slot, families);
  }

  /** Why a network got none when it was last asked for; undefined: it got one. */
  failure(): Failure | undefined {
    return this.#failure;
  }

  /** What networks lost by this host's settings, with containers that had it; undefined: none did. */
  switchedOff(): Failure | undefined {
    return this.#modules.pools === undefined && this.#slots.size > 0 ? SWITCHED_OFF : undefined;
  }

  /** There may be room where there was none. */
  lookAgain(): void {
    this.#isVain = false;
  }

  /** What the cluster does not have any more needs none. */
  forgetEnded(): void {
    this.lookAgain();
    const { tables, disk } = this.#modules;
    if (tables.state === undefined) return;
    for (const network of this.#slots.keys()) {
      if (recordOf(tables.state, network) !== undefined) continue;
      this.#slots.delete(network);
      disk.oweDelete(PREFIX + network);
    }
  }

  #take(network: NetworkId, pools: TransitPools): number | undefined {
    const taken = new Set(this.#slots.values());
    let slot = 0;
    while (taken.has(slot)) slot++;
    this.#failure = this.#overlap(pools) ?? (slot < slotsIn(pools) ? undefined : full(pools));
    this.#isVain = this.#failure !== undefined;
    if (this.#isVain) return undefined;
    this.#slots.set(network, slot);
    this.#modules.disk.owePut(PREFIX + network, { network, slot });
    return slot;
  }

  /** With what this host is connected to, or a network of the cluster. */
  #overlap(pools: TransitPools): Failure | undefined {
    const { tables, hostSubnets } = this.#modules;
    const held = [
      ...hostSubnets()
        .filter(({ link }) => !isTransitLink(link))
        .map(({ link, subnet }) => ({ subnet, whose: `of this host's ${link}` })),
      ...(tables.state?.networks ?? []).flatMap(({ name, subnets }) =>
        subnets.map(({ subnet }) => ({ subnet, whose: `of the network ${name}` })),
      ),
    ];
    for (const pool of Object.values(pools) as Cidr[]) {
      const found = held.find(({ subnet }) => cidrOverlaps(subnet, pool));
      if (found !== undefined) return overlapping(pool, found);
    }
    return undefined;
  }
}

const SWITCHED_OFF: Failure = {
  code: "UNSUPPORTED",
  message: "the networks' own ways out are off here (OVERLAY_TS_TRANSIT_POOL)",
  next: "restart these containers, which get docker_gwbridge then; or set OVERLAY_TS_TRANSIT_POOL as before, and restart the agent",
};

function overlapping(pool: Cidr, { subnet, whose }: { subnet: Cidr; whose: string }): Failure {
  return {
    code: "CONFLICT",
    message: `addresses of the ways out (${pool}) overlap ${subnet} ${whose}: containers on further networks get docker_gwbridge`,
    next: "give this host another OVERLAY_TS_TRANSIT_POOL, and restart its agent",
  };
}

function full(pools: TransitPools): Failure {
  return {
    code: "FULL",
    message: `${pools[4]} has no addresses left for ways out: containers on further networks get docker_gwbridge`,
    next: "give this host a larger OVERLAY_TS_TRANSIT_POOL, and restart its agent",
  };
}
