import { isDeepStrictEqual } from "node:util";
import type { SecurityClass } from "../../shared/cluster-state.ts";
import type { NodeId } from "../../shared/ids.ts";
import { Signal } from "../../shared/signal.ts";
import { type FoundThrough, lostHosts, lostThrough } from "../core/liveness/reach.ts";

/** Which other hosts are not reached, as the data paths found last (data-paths.ts): for all who ask. */
export class Reach {
  /** Other hosts are lost, or found again, on some networks or altogether. */
  readonly changed = new Signal();
  #lost: ReadonlySet<NodeId> = new Set();
  #through: Readonly<Record<SecurityClass, ReadonlySet<NodeId>>> = {
    none: new Set(),
    wireguard: new Set(),
    ipsec: new Set(),
  };

  /** Hosts that answer through nothing. */
  lost(): ReadonlySet<NodeId> {
    return this.#lost;
  }

  /** Hosts whose containers are not reached on networks of the class. */
  lostThrough(encryption: SecurityClass): ReadonlySet<NodeId> {
    return this.#through[encryption];
  }

  found(found: FoundThrough): void {
    const lost = lostHosts(found);
    const through = {
      none: lostThrough(found, "none"),
      wireguard: lostThrough(found, "wireguard"),
      ipsec: lostThrough(found, "ipsec"),
    };
    if (isDeepStrictEqual(lost, this.#lost) && isDeepStrictEqual(through, this.#through)) return;
    this.#lost = lost;
    this.#through = through;
    this.changed.emit();
  }
}
