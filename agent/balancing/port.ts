import type { Service } from "../core/balancing/service.ts";
import type { Failure } from "../../shared/errors.ts";
import type { NetworkId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import type { Signal } from "../../shared/signal.ts";

/** A container's network namespace, whose processes dial virtual addresses. */
export interface Client {
  /** The id in Docker's SandboxKey. */
  readonly id: string;
  /** SandboxKey: where Docker mounts the namespace, sooner or later. */
  readonly path: string;
  /** The overlay networks that it is on: the services of these are for it, and no others. */
  readonly networks: readonly NetworkId[];
  /** What it is in rendezvous hashes: the same for as long as it should keep its member of a sticky service. */
  readonly name: string;
}

/** A virtual address that leads somewhere in a client's namespace: its table has it. */
export interface ServedAddress {
  readonly network: NetworkId;
  readonly name: string;
  readonly ipv4: Ip | undefined;
  readonly ipv6: Ip | undefined;
}

export interface ClientStatus {
  readonly id: string;
  /**
   * `idle`: no service was for it yet, and there is no table. `waiting`: Docker has not made the namespace yet.
   * `failed`: the table is not what it should be; what was served before is.
   */
  readonly state: "idle" | "waiting" | "served" | "failed";
  readonly problem: string | undefined;
  readonly served: readonly ServedAddress[];
}

/**
 * Virtual addresses where they are dialled: in each client's namespace a table leads them to members. Nothing here throws
 * because of what a namespace holds or lacks: `clients` says it, and it is tried again. While no agent runs the tables stay
 * as they are.
 */
export interface Balancing {
  /** A client is served otherwise than before: other addresses, another state. */
  readonly changed: Signal<[id: string]>;
  /** Why no table is written now, and it is tried again; absent: it cannot fail. */
  failure?(): Failure | undefined;
  /** All services of a network, in place of those before. Many calls in a row are one change of each table. */
  services(network: NetworkId, services: readonly Service[]): void;
  /** A client, or another of that id. */
  serve(client: Client): void;
  /** Nothing of ours stays there; connections by virtual addresses end. One that is gone, or never was, is success. */
  withdraw(id: string): Promise<void>;
  clients(): readonly ClientStatus[];
  /** What names may answer there by a virtual address: written first, then said. */
  served(id: string): readonly ServedAddress[];
  /** Looks at all tables now, not when their turn comes: where one was put back. */
  check(): Promise<readonly string[]>;
  counters(): Readonly<Record<string, number>>;
  /** Tables stay, and go on. */
  stop(): Promise<void>;
}
