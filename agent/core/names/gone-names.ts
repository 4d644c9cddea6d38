import type { EndpointId } from "../../../shared/ids.ts";
import { isShortId } from "./name-rows.ts";
import type { Holder } from "./names.ts";
import type { ChangedHolders } from "./told-holders.ts";

/**
 * How long a network has a name that nobody there holds any more: longer than Docker's restart policies
 * wait between two tries (a minute at most, moby restartmanager), and than a container takes to be made
 * anew, which has to stop first.
 */
export const REMEMBERED_MS = 120_000;
/** Of one network; the oldest are forgotten first. */
const REMEMBERED = 1000;

/** Why such a holder is in no answer. */
export const GONE = "gone";

/**
 * Who held names of one network a moment ago. A container that is being restarted, or made anew, has
 * nobody answer for it from another network meanwhile, nor from outside.
 */
export class GoneNames {
  /** How many were forgotten before their time: too many. */
  forgottenEarly = 0;
  readonly #rememberedMs: number;
  readonly #gone = new Map<EndpointId, { readonly holder: Holder; readonly untilMs: number }>();

  constructor(rememberedMs = REMEMBERED_MS) {
    this.#rememberedMs = rememberedMs;
  }

  /**
   * @param changed who held names when it was asked last and who holds them now, where that is not the same.
   * @returns the gone ones to tell with those who hold names now.
   */
  after(changed: ChangedHolders, nowMs: number): readonly Holder[] {
    const came = new Set(changed.after.map(({ endpoint }) => endpoint));
    for (const [endpoint, { untilMs }] of this.#gone)
      if (came.has(endpoint) || untilMs <= nowMs) this.#gone.delete(endpoint);
    for (const holder of changed.before) {
      const { endpoint } = holder;
      if (came.has(endpoint)) continue;
      const names = holder.names.filter((name, i) => !isShortId(name, i));
      if (names.length === 0) continue;
      const left: Holder = { ...holder, names, ips: [], out: GONE };
      this.#gone.set(endpoint, { holder: left, untilMs: nowMs + this.#rememberedMs });
    }
    for (const endpoint of this.#gone.keys()) {
      if (this.#gone.size <= REMEMBERED) break;
      this.#gone.delete(endpoint);
      this.forgottenEarly++;
    }
    return this.holders();
  }

  holders(): readonly Holder[] {
    return [...this.#gone.values()].map(({ holder }) => holder);
  }

  /** When the next is forgotten. */
  nextMs(): number | undefined {
    const [oldest] = this.#gone.values();
    return oldest?.untilMs;
  }
}
