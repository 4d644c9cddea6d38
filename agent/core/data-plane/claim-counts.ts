import type { NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import type { Mac } from "../../../shared/mac.ts";
import { changedPart } from "./changed-part.ts";
import type { Claim } from "./claims.ts";

/** What no endpoint may have. */
const TAKEN = "taken";
type On = Claim | typeof TAKEN;

/**
 * The claims on each MAC and address of a network. Mostly one: then all of them hold, which is known without a look
 * at any. A change of one host's claims costs as much as what changed.
 */
export class ClaimCounts {
  /** One alone without a list. */
  readonly #on = new Map<Mac | Ip, On | On[]>();
  readonly #of = new Map<NodeId, readonly Claim[]>();
  /** On which more than one claim is. */
  readonly #disputed = new Set<Mac | Ip>();

  /** `taken`: MAC addresses that no endpoint may have. */
  constructor(taken: Iterable<Mac>) {
    // Two subnets may have gateways that derive one MAC: no dispute, both are the bridge's.
    for (const mac of new Set(taken)) this.#add(mac, TAKEN);
  }

  /** Claims on something that another claim is on, or on what is taken. No other gains or loses by these. */
  disputed(): Set<Claim> {
    const claims = [...this.#disputed].flatMap((key) => this.#on.get(key) ?? []);
    return new Set(claims.filter((on) => on !== TAKEN));
  }

  /** What the host claims now, in place of what it claimed before. */
  set(node: NodeId, claims: readonly Claim[]): void {
    const { before, after } = changedPart(this.#of.get(node) ?? [], claims);
    for (const claim of before) for (const key of keysOf(claim)) this.#drop(key, claim);
    for (const claim of after) for (const key of keysOf(claim)) this.#add(key, claim);
    if (claims.length === 0) this.#of.delete(node);
    else this.#of.set(node, claims);
  }

  #add(key: Mac | Ip, claim: On): void {
    const on = this.#on.get(key);
    if (on === undefined) return void this.#on.set(key, claim);
    const all = Array.isArray(on) ? [...on, claim] : [on, claim];
    this.#on.set(key, all);
    if (all.length === 2) this.#disputed.add(key);
  }

  #drop(key: Mac | Ip, claim: On): void {
    const on = this.#on.get(key);
    if (!Array.isArray(on)) return void this.#on.delete(key);
    const left = on.toSpliced(on.indexOf(claim), 1);
    const [last] = left;
    if (left.length > 1 || last === undefined) return void this.#on.set(key, left);
    this.#on.set(key, last);
    this.#disputed.delete(key);
  }
}

function keysOf({ claimed, holder }: Claim): (Mac | Ip)[] {
  return [holder.endpoint.mac, ...claimed];
}
