import { z } from "zod";
import type { BlockRecord, ClusterState } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import { NetworkId, type NodeId } from "../../shared/ids.ts";
import { Cidr, cidrContains, type Ip } from "../../shared/ip.ts";
import type { Disk } from "../store/disk.ts";

const ReturnedBlock = z.object({ network: NetworkId, block: Cidr });
type ReturnedBlock = z.infer<typeof ReturnedBlock>;

/**
 * Blocks that this host gives back. From the moment that the controller is asked to take one it may be another
 * host's, and the answer may get lost: none of its addresses is given to a container until it is known whose the
 * block is. On disk, for a restart meanwhile.
 */
export class ReturnedBlocks {
  readonly #disk: Disk;
  readonly #returned = new Map<string, ReturnedBlock>();
  /** Asked, and not answered yet. */
  readonly #underWay = new Set<string>();

  constructor(disk: Disk) {
    this.#disk = disk;
    for (const held of disk.list("returning/", ReturnedBlock))
      this.#returned.set(keyOf(held.network, held.block), held);
  }

  /** What may be given to containers. */
  usable(self: NodeId, blocks: readonly BlockRecord[]): BlockRecord[] {
    return blocks.filter(({ network, block, node }) => node !== self || !this.has(network, block));
  }

  has(network: NetworkId, block: Cidr): boolean {
    return this.#returned.has(keyOf(network, block));
  }

  /** `ask` asks the controller to take the block. When it fails the block stays marked, to be asked for again. */
  async giveBack({ network, block }: ReturnedBlock, ask: () => Promise<unknown>): Promise<void> {
    this.asking(network, block);
    try {
      await ask();
    } catch (error) {
      this.asked(network, block, false);
      throw error;
    }
    this.asked(network, block, true);
  }

  /** Before the controller is asked. */
  asking(network: NetworkId, block: Cidr): void {
    const key = keyOf(network, block);
    this.#disk.put(`returning/${key}`, { network, block });
    this.#underWay.add(key);
    this.#returned.set(key, { network, block });
  }

  /** Without `done` it is not known whose the block is. */
  asked(network: NetworkId, block: Cidr, done: boolean): void {
    const key = keyOf(network, block);
    this.#underWay.delete(key);
    if (done) this.#clear(key);
  }

  /** The controller gave it to this host (again): usable, unless a request to take it is still on its way. */
  granted({ network, block }: BlockRecord): void {
    const key = keyOf(network, block);
    if (!this.#underWay.has(key)) this.#clear(key);
  }

  /** Those that the state does not give to this host: it is known that they are not its own. */
  forget(self: NodeId, state: ClusterState | undefined): void {
    const own = new Set(
      (state?.blocks ?? [])
        .filter(({ node }) => node === self)
        .map(({ network, block }) => keyOf(network, block)),
    );
    for (const key of this.#returned.keys())
      if (!own.has(key) && !this.#underWay.has(key)) this.#clear(key);
  }

  /** @throws STALE: whose the address is will be known in a moment. */
  check(network: NetworkId, ip: Ip): void {
    const held = [...this.#returned.values()].find(
      (one) => one.network === network && cidrContains(one.block, ip),
    );
    if (held === undefined) return;
    throw new OverlayError({
      code: "STALE",
      message: `this host is giving ${held.block} back, and ${ip} with it`,
      next: "try again in a minute, or choose another address",
    });
  }

  #clear(key: string): void {
    if (this.#returned.delete(key)) this.#disk.oweDelete(`returning/${key}`);
  }
}

function keyOf(network: NetworkId, block: Cidr): string {
  return `${network}/${block}`;
}
