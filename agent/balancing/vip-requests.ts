import type { VipRecord } from "../../shared/cluster-state.ts";
import { asFailure, type ErrorCode, type Failure } from "../../shared/errors.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import { inBackground } from "../../shared/node/in-background.ts";
import { RetriedWork } from "../../shared/node/retried-work.ts";
import type { Clock, Log } from "../../shared/ports.ts";
import { unheldVips } from "../core/balancing/unheld.ts";
import type { VipWish } from "../core/balancing/vip-wish.ts";
import { hasVip } from "../core/balancing/vips-on.ts";
import type { Tables } from "../core/tables/tables.ts";
import type { ControllerLink } from "../membership/controller-link.ts";

/** Longer than a service takes to be made anew, and so that nobody has a name's old address in its memory. */
const UNHELD_MS = 600_000;

/** Of the controller itself: nothing else need be asked. */
const AWAY: ReadonlySet<ErrorCode> = new Set(["UNREACHABLE", "TIMEOUT", "STALE"]);

export interface AskedVip extends VipWish {
  readonly network: NetworkId;
}

export interface VipRequestsModules {
  readonly self: NodeId;
  readonly tables: Pick<Tables, "state" | "hosts" | "documents">;
  readonly controller: Pick<ControllerLink, "request">;
  /** Of the containers that run here. */
  readonly wishes: () => readonly AskedVip[];
  readonly lost: () => ReadonlySet<NodeId>;
  readonly clock: Pick<Clock, "nowMs">;
  readonly log: Log;
  /** `failure` says something else. */
  readonly failureChanged: () => void;
}

/**
 * What containers here ask for and the state has not is asked of the controller; what labels asked for and nobody has had for
 * ten minutes ends. Both are compared, with each change and each minute, so that nothing need be remembered.
 */
export class VipRequests {
  readonly #modules: VipRequestsModules;
  readonly #retried: RetriedWork;
  /** Refused since the last minute began, and why. */
  readonly #refused = new Map<string, Failure>();
  /** Since when nobody has had them, by `keyOf`. */
  readonly #unheldSinceMs = new Map<string, number>();
  #underWay: Promise<void> | undefined;
  #again = false;

  constructor(modules: VipRequestsModules) {
    this.#modules = modules;
    this.#retried = new RetriedWork((failure) => {
      if (failure !== undefined)
        modules.log.warn(
          { ...failure },
          "a container's virtual address was not had; asked again every minute",
        );
      modules.failureChanged();
    });
  }

  /** Why a container here has not the address that it asks for: its name answers its members. */
  failure(): Failure | undefined {
    return this.#retried.failure();
  }

  /** Containers, or the state, are others. */
  soon(): void {
    if (this.#underWay !== undefined) this.#again = true;
    else if (this.#lacking().length > 0 || this.failure() !== undefined) this.#begin();
  }

  /** Once a minute. */
  check(): void {
    this.#refused.clear();
    this.soon();
    inBackground(
      this.#endUnheld(),
      this.#modules.log,
      "a virtual address that nobody has could not be ended; tried again",
    );
  }

  #begin(): void {
    this.#underWay = this.#pass().finally(() => {
      this.#underWay = undefined;
      if (!this.#again) return;
      this.#again = false;
      this.soon();
    });
  }

  async #pass(): Promise<void> {
    for (const { network, name, sticky, madeBy } of this.#lacking()) {
      const key = keyOf({ network, name });
      try {
        const asked = { v: 1, kind: "addVip", network, name, sticky, madeBy } as const;
        await this.#modules.controller.request(asked, "vip");
      } catch (error) {
        const failure = asFailure(error);
        this.#refused.set(key, notHad(name, failure));
        if (AWAY.has(failure.code)) break;
      }
    }
    const wished = new Set(this.#modules.wishes().map(keyOf));
    for (const key of this.#refused.keys()) if (!wished.has(key)) this.#refused.delete(key);
    this.#retried.went([...this.#refused.values()][0]);
  }

  /** Each once. */
  #lacking(): AskedVip[] {
    const { wishes, tables } = this.#modules;
    const lacking = new Map<string, AskedVip>();
    for (const wish of wishes()) {
      const key = keyOf(wish);
      const isThere = hasVip(tables.state, wish.network, wish.name);
      if (!isThere && !this.#refused.has(key) && !lacking.has(key)) lacking.set(key, wish);
    }
    return [...lacking.values()];
  }

  async #endUnheld(): Promise<void> {
    const { tables, self, lost, clock, controller, log } = this.#modules;
    const unheld = new Map(unheldVips(tables, self, lost()).map((vip) => [keyOf(vip), vip]));
    for (const key of this.#unheldSinceMs.keys())
      if (!unheld.has(key)) this.#unheldSinceMs.delete(key);
    const nowMs = clock.nowMs();
    for (const [key, { network, name }] of unheld) {
      const sinceMs = this.#unheldSinceMs.get(key) ?? nowMs;
      this.#unheldSinceMs.set(key, sinceMs);
      if (nowMs - sinceMs < UNHELD_MS) continue;
      const ending = { v: 1, kind: "removeVip", network, name, unheld: true } as const;
      await controller.request(ending, "done");
      this.#unheldSinceMs.delete(key);
      log.info({ network, name }, "a virtual address ended: nobody has had its name for a while");
    }
  }
}

function keyOf({ network, name }: Pick<VipRecord, "network" | "name">): string {
  return `${network} ${name}`;
}

function notHad(name: string, { code, message, next }: Failure): Failure {
  return {
    code,
    message: `${name} has no virtual address, and answers its members: ${message}`,
    next: next ?? "it is asked for again every minute",
  };
}
