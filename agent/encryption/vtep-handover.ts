import { isDeepStrictEqual } from "node:util";
import type { NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import type { Clock, Timers } from "../../shared/ports.ts";
import { type FormerVteps, VtepMoves } from "../core/data-plane/vtep-moves.ts";
import type { Tables } from "../core/tables/tables.ts";

const LOOK_MS = 1000;

export interface VtepHandoverModules {
  readonly self: NodeId;
  readonly tables: Tables;
  /** Some interface of this host has the address. */
  readonly hasAddress: (ip: Ip) => boolean;
  /** `former` or `sendsFrom` says something else, and not because of a state that was heard. */
  readonly changed: () => void;
  /** Each second while some host is changing over: what has no event of its own is looked at again. */
  readonly look: () => void;
  readonly clock: Pick<Clock, "nowMs">;
  readonly timers: Timers;
}

/** Hosts that change their address, as guards, paths and classes of encryption have to know of it. */
export class VtepHandover {
  readonly #modules: VtepHandoverModules;
  readonly #moves = new VtepMoves();
  #seen: { readonly former: FormerVteps; readonly sendsFrom: Ip | undefined };
  #timer: (() => void) | undefined;

  constructor(modules: VtepHandoverModules) {
    this.#modules = modules;
    this.#seen = this.#now();
  }

  /** Before whoever asks: the state may be another. */
  heard(): void {
    const { tables, clock } = this.#modules;
    this.#moves.heard(tables.state, clock.nowMs());
    this.#seen = this.#now();
    if (this.#timer === undefined) this.#plan();
  }

  /** VTEPs that peers may send from beside their signed one; this host's own included. */
  former(): FormerVteps {
    return this.#seen.former;
  }

  /**
   * This host's VTEP of before, while it sends from there: peers let it in still, and may not have heard of the new one.
   * Undefined: it sends from the signed one. So it is at once when no interface has the former one any more.
   */
  sendsFrom(): Ip | undefined {
    return this.#seen.sendsFrom;
  }

  /** Some interface of this host has the address. */
  isHere(ip: Ip): boolean {
    return this.#modules.hasAddress(ip);
  }

  stop(): void {
    this.#timer?.();
    this.#timer = undefined;
  }

  #now() {
    const { self, clock, hasAddress } = this.#modules;
    const nowMs = clock.nowMs();
    const sendsFrom = this.#moves.sendsFrom(self, nowMs);
    return {
      former: this.#moves.former(nowMs),
      sendsFrom: sendsFrom !== undefined && hasAddress(sendsFrom) ? sendsFrom : undefined,
    };
  }

  #plan(): void {
    if (this.#seen.former.size > 0)
      this.#timer = this.#modules.timers.after(LOOK_MS, () => this.#look());
  }

  #look(): void {
    const before = this.#seen;
    this.#timer = undefined;
    this.#seen = this.#now();
    this.#plan();
    if (!isDeepStrictEqual(before, this.#seen)) this.#modules.changed();
    this.#modules.look();
  }
}
