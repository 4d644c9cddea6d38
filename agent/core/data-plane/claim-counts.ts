import type { NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import type { Mac } from "../../../shared/mac.ts";
import type { Claim } from "./claims.ts";

/**
 * How many claims there are on each MAC and address of a network. Mostly one: then all of them hold, which
 * is known without a look at any. A change of one host's claims costs as much as there are of that host.
 */
export class ClaimCounts {
  readonly #counts = new Map<Mac | Ip, number>();
  readonly #of = new Map<NodeId, readonly Claim[]>();
  /** On which more than one claim is. */
  #disputed = 0;

  /** `taken`: MAC addresses that no endpoint may have. */
  constructor(taken: Iterable<Mac>) {
    // Two subnets may have gateways that derive one MAC: no dispute, both are the bridge's.
    for (const mac of new Set(taken)) this.#add(mac);
  }

  /** Two claims on something, or one on what is taken. */
  get areDisputed(): boolean {
    return this.#disputed > 0;
  }

  /** What each host claims now, in place of what it claimed before; who is not named claims nothing. */
  set(claims: ReadonlyMap<NodeId, readonly Claim[]>): void {
    for (const [node, before] of this.#of)
      if (!claims.has(node)) {
        this.#change(before, []);
        this.#of.delete(node);
      }
    for (const [node, after] of claims) {
      const before = this.#of.get(node) ?? [];
      if (before === after) continue;
      this.#change(before, after);
      this.#of.set(node, after);
    }
  }

  #change(before: readonly Claim[], after: readonly Claim[]): void {
    const [was, is] = [new Set(before), new Set(after)];
    for (const claim of was) if (!is.has(claim)) for (const key of keysOf(claim)) this.#drop(key);
    for (const claim of is) if (!was.has(claim)) for (const key of keysOf(claim)) this.#add(key);
  }

  #add(key: Mac | Ip): void {
    const count = (this.#counts.get(key) ?? 0) + 1;
    this.#counts.set(key, count);
    if (count === 2) this.#disputed++;
  }

  #drop(key: Mac | Ip): void {
    const count = (this.#counts.get(key) ?? 0) - 1;
    if (count === 1) this.#disputed--;
    if (count === 0) this.#counts.delete(key);
    else this.#counts.set(key, count);
  }
}

function keysOf({ claimed, holder }: Claim): (Mac | Ip)[] {
  return [holder.endpoint.mac, ...claimed];
}
