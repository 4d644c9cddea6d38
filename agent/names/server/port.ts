import type { Scope } from "../../core/names/name-table.ts";
import type { Holder, NamedNetwork, NamedVip } from "../../core/names/names.ts";
import type { Failure } from "../../../shared/errors.ts";
import type { EndpointId, NetworkId } from "../../../shared/ids.ts";

/** A container's network namespace, by the id in Docker's SandboxKey (12 hex). */
export type SandboxId = string & { readonly __brand: "SandboxId" };

export interface Sandbox {
  readonly id: SandboxId;
  /** SandboxKey: where Docker mounts the namespace, sooner or later. */
  readonly path: string;
  /** The overlay networks it is on: what its questions see, all of it and nothing else. */
  readonly scope: Scope;
  /** Undefined: one of its networks leads out, and what is no name of ours is Docker's to answer. */
  readonly closed: Closed | undefined;
}

/**
 * Of a container that has no way out. Docker's resolver has nobody to ask for it, and on some engines
 * never says so; on others it asks all the same, from the host, when the host's resolver is on the
 * host's loopback (CVE-2024-29018). So it is asked only for what may be one of its own names.
 */
export interface Closed {
  /** `--dns`: its servers are asked from within the container, and no others: all may be asked for. */
  readonly resolvers: boolean;
  /** The names of Docker's own networks that it is on besides. Undefined: not known yet, in a moment. */
  readonly others: readonly string[] | undefined;
}

/** A change of what names there are. A network's first change is `network`. */
export type TableChange =
  | { readonly kind: "network"; readonly info: NamedNetwork }
  | {
      readonly kind: "holders";
      readonly network: NetworkId;
      readonly put: readonly Holder[];
      readonly remove: readonly EndpointId[];
    }
  /** All that the network has. */
  | { readonly kind: "vips"; readonly network: NetworkId; readonly vips: readonly NamedVip[] }
  | { readonly kind: "forget"; readonly network: NetworkId };

/** How a sandbox's names are served, for `status` and `verify`. */
export interface SandboxStatus {
  readonly id: SandboxId;
  /** `waiting`: Docker has not made the namespace yet. `failed`: Docker's own resolver answers there. */
  readonly state: "waiting" | "serving" | "failed";
  readonly problem: string | undefined;
}

/**
 * Answers DNS questions of containers, before Docker's resolver and inside their namespaces. What is
 * not a name of ours goes on to Docker's resolver; so does everything while nobody answers here.
 */
export interface NameServer {
  start(): Promise<void>;
  /** In order. */
  change(changes: readonly TableChange[]): void;
  /**
   * Serves a sandbox, or changes its scope. Resolves when the namespace, if it is there already, is
   * served: for Docker's Join before its answer. One that is not there yet is waited for afterwards.
   */
  serve(sandbox: Sandbox): Promise<void>;
  /** Nothing of ours stays there. One that is gone, or was never served, is success. */
  withdraw(id: SandboxId): Promise<void>;
  sandboxes(): Promise<readonly SandboxStatus[]>;
  /** Looks after all that are served now, not when their turn comes: those where something was put back. */
  check(): Promise<readonly SandboxId[]>;
  /** By what happened: answered, forwarded, refused, dropped, … */
  counters(): Promise<Readonly<Record<string, number>>>;
  /** Why none answers now, and is started again; absent: it cannot fail. */
  failure?(): Failure | undefined;
  /** As `Mesh`: for the watchdog. */
  owesSinceMs(): number | undefined;
  /**
   * `handOver`: sockets that a manager keeps go on collecting questions for the next agent. Else, and
   * without a manager, Docker's resolver answers before they are closed.
   */
  stop(next: "handOver" | "letGo"): Promise<void>;
}
