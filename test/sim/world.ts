import type { NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import type { Random } from "../../shared/ports.ts";
import type { EventQueue } from "./event-queue.ts";
import type { FaultMix } from "./faults.ts";
import type { Monitor } from "./monitor.ts";
import type { SimAgent } from "./sim-agent.ts";
import type { SimController } from "./sim-controller.ts";
import type { SimHost } from "./sim-host.ts";
import type { SimNetwork } from "./sim-network.ts";
import type { SimKeys, SimTrust } from "./stand-ins.ts";

export interface SimOptions {
  readonly seed: number;
  readonly nodes: number;
  readonly networks: number;
  /** Containers that run in the cluster at most times. */
  readonly endpoints: number;
  /** The containers run when it begins, and every disk has what the others say (preload.ts). */
  readonly preloaded?: boolean | undefined;
  /** Virtual: for how long there are faults. */
  readonly chaosMs: number;
  /** Virtual: what is told within this time is looked at once. */
  readonly coalesceMs: number;
}

/** What the parts of a simulation share. */
export interface World {
  readonly options: SimOptions;
  readonly queue: EventQueue;
  readonly random: Random;
  readonly faults: FaultMix;
  readonly keys: SimKeys;
  readonly trust: SimTrust;
  readonly network: SimNetwork;
  readonly controller: SimController;
  readonly monitor: Monitor;
  /** Machines by number, evicted ones and clones not among them. */
  readonly hosts: readonly SimHost[];
  /** Faults happen; false while the cluster comes to rest. */
  readonly faulty: boolean;
  /** Whose address the signed table gives; undefined: no such member. */
  hostOf(node: NodeId): SimHost | undefined;
  /** Whose address it is; undefined: nobody's. */
  hostAt(address: Ip): SimHost | undefined;
  /** Now, or before it was evicted. */
  wasMember(node: NodeId): boolean;
  /** Its counters are added up. */
  ended(agent: SimAgent): void;
  readonly trace: (line: string) => void;
}

/** Of each hundred. */
export function chance(random: Random, percent: number): boolean {
  return random.below(10_000) < percent * 100;
}

export function pick<T>(random: Random, items: readonly T[]): T | undefined {
  return items.length === 0 ? undefined : items[random.below(items.length)];
}
