import type { BlockRecord, ClusterState } from "../shared/cluster-state.ts";
import { OverlayError } from "../shared/errors.ts";
import type { NetworkId, NodeId } from "../shared/ids.ts";
import { type Cidr, cidrContains, type Ip } from "../shared/ip.ts";
import type { Bindings } from "./bindings.ts";

type Marks = Pick<Bindings, "returning" | "allReturning" | "markReturning" | "clearReturning">;

/**
 * Blocks that this host gives back. From the moment that the controller is asked to take one it may be
 * another host's, and the state here need not know that yet, nor need the answer ever come: so nothing
 * of it is given to a container, until it is known whose it is. On disk, for a restart meanwhile.
 */
export class GivenBack {
  readonly #bindings: Marks;
  /** Asked, and not answered yet. */
  readonly #underWay = new Set<string>();

  constructor(bindings: Marks) {
    this.#bindings = bindings;
  }

  /** What may be given to containers. */
  usable(self: NodeId, blocks: readonly BlockRecord[]): BlockRecord[] {
    return blocks.filter(({ network, block, node }) => node !== self || !this.has(network, block));
  }

  has(network: NetworkId, block: Cidr): boolean {
    return this.#bindings.returning(network).has(block);
  }

  /** Before the controller is asked. */
  asking(network: NetworkId, block: Cidr): void {
    this.#underWay.add(`${network} ${block}`);
    this.#bindings.markReturning(network, block);
  }

  /** Without `done` nobody knows: it is asked again, and not used until then. */
  asked(network: NetworkId, block: Cidr, done: boolean): void {
    this.#underWay.delete(`${network} ${block}`);
    if (done) this.#bindings.clearReturning(network, block);
  }

  /** The controller gave it to this host (again): usable, unless a request to take it is still on its way. */
  granted({ network, block }: BlockRecord): void {
    if (!this.#underWay.has(`${network} ${block}`)) this.#bindings.clearReturning(network, block);
  }

  /** Those that the state does not give to this host: it is known that they are not its own. */
  forget(self: NodeId, state: ClusterState | undefined): void {
    const own = new Set(
      (state?.blocks ?? [])
        .filter(({ node }) => node === self)
        .map(({ network, block }) => `${network} ${block}`),
    );
    for (const { network, block } of this.#bindings.allReturning()) {
      const key = `${network} ${block}`;
      if (!own.has(key) && !this.#underWay.has(key)) this.#bindings.clearReturning(network, block);
    }
  }

  /** @throws STALE: whose the address is will be known in a moment. */
  check(network: NetworkId, ip: Ip): void {
    const block = [...this.#bindings.returning(network)].find((held) => cidrContains(held, ip));
    if (block === undefined) return;
    throw new OverlayError({
      code: "STALE",
      message: `this host is giving ${block} back, and ${ip} with it`,
      next: "try again in a minute, or choose another address",
    });
  }
}
