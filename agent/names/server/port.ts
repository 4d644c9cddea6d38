import type { Holder, NamedNetwork } from "../core/names.ts";
import type { EndpointId, NetworkId } from "../../shared/ids.ts";

/** A container's network namespace, by the id in Docker's SandboxKey (12 hex). */
export type SandboxId = string & { readonly __brand: "SandboxId" };

export interface Sandbox {
  readonly id: SandboxId;
  /** SandboxKey: where Docker mounts the namespace, sooner or later. */
  readonly path: string;
  /** The overlay networks it is on: what its questions see, all of it and nothing else. */
  readonly scope: readonly NetworkId[];
  /**
   * Every one of these is internal. When the container has no other way out either, Docker's resolver has
   * nobody to ask, and on some engines never says so: a name that Docker does not answer is then
   * answered as one that is not there.
   */
  readonly closed: boolean;
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
  /** As `Mesh`: for the watchdog. */
  owesSinceMs(): number | undefined;
  /**
   * `handOver`: sockets that a manager keeps go on collecting questions for the next agent. Else, and
   * without a manager, Docker's resolver answers before they are closed.
   */
  stop(next: "handOver" | "letGo"): Promise<void>;
}
