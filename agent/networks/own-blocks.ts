import type {
  BlockRecord,
  ClusterState,
  NetworkRecord,
  SubnetRecord,
} from "../../shared/cluster-state.ts";
import { claimedAddresses } from "../../shared/documents.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import {
  type Cidr,
  cidrContains,
  type Family,
  familyOf,
  hostCidr,
  type Ip,
} from "../../shared/ip.ts";
import { KeyedMutex } from "../../shared/node/keyed-mutex.ts";
import type { Log } from "../../shared/ports.ts";
import { isDockersPart } from "../../shared/subnets.ts";
import { BlockIndex } from "../core/data-plane/block-index.ts";
import { freeAddresses } from "../core/ipam.ts";
import type { ControllerLink } from "../membership/controller-link.ts";
import type { Replication } from "../replication/replication.ts";
import type { Disk } from "../store/disk.ts";
import type { Leases } from "./leases.ts";
import type { LocalNetworks } from "./local-networks.ts";
import { ReturnedBlocks } from "./returned-blocks.ts";

export const RETURN_AFTER_MS = 5 * 60_000;

export interface OwnBlocksModules {
  readonly replication: Pick<Replication, "tables">;
  readonly disk: Disk;
  readonly leases: Leases;
  readonly localNetworks: Pick<LocalNetworks, "keyCame" | "endpoints">;
  readonly controller: Pick<ControllerLink, "request">;
  readonly log: Log;
}

/** Blocks of addresses that the controller gave this host: asked for when they are needed, given back when unused. */
export class OwnBlocks {
  readonly #node: NodeId;
  readonly #modules: OwnBlocksModules;
  readonly #returnAfterMs: number;
  readonly #emptySinceMs = new Map<string, number>();
  readonly #growing = new Map<string, Promise<void>>();
  readonly #owning = new KeyedMutex<string>();
  readonly #returnedBlocks: ReturnedBlocks;

  constructor(node: NodeId, modules: OwnBlocksModules, returnAfterMs: number) {
    this.#node = node;
    this.#modules = modules;
    this.#returnAfterMs = returnAfterMs;
    this.#returnedBlocks = new ReturnedBlocks(modules.disk);
  }

  /** All hosts' blocks of the network, without those that this host gives back. */
  of(network: NetworkId): BlockRecord[] {
    const { state } = this.#modules.replication.tables;
    const blocks = (state?.blocks ?? []).filter((block) => block.network === network);
    return this.#returnedBlocks.usable(this.#node, blocks);
  }

  /** Given out, or a container has it still: Docker may release an address before its endpoint goes. */
  used(network: NetworkId): ReadonlySet<Ip> {
    const { leases, localNetworks } = this.#modules;
    const held = localNetworks.endpoints(network).flatMap(claimedAddresses);
    return new Set([...leases.of(network), ...held]);
  }

  /**
   * The address lies in a block of this host. In turn: a call that came too late gives back what it was granted,
   * and another for the same address must ask after that.
   */
  own(record: NetworkRecord, ip: Ip, signal: AbortSignal): Promise<void> {
    return this.#owning.run(`${record.id} ${ip}`, async () => {
      signal.throwIfAborted();
      if (this.#holds(record, ip)) return;
      this.#returnedBlocks.check(record.id, ip);
      const { controller, localNetworks } = this.#modules;
      const { block, key } = await controller.request(
        { v: 1, kind: "grantAddress", network: record.id, ip },
        "block",
      );
      this.#returnedBlocks.granted(block);
      localNetworks.keyCame(record.id, key);
      // Else it was in a block of ours before.
      if (signal.aborted && block.block === hostCidr(ip)) await this.#giveBackLate(block);
      signal.throwIfAborted();
    });
  }

  /** Asked for by several containers at once, the next block comes once. */
  grow(record: NetworkRecord, { subnet }: SubnetRecord): Promise<void> {
    const family = familyOf(subnet);
    const key = `${record.id} ${family}`;
    let growing = this.#growing.get(key);
    if (growing === undefined) {
      growing = this.#allot(record.id, family).finally(() => this.#growing.delete(key));
      this.#growing.set(key, growing);
    }
    return growing;
  }

  /** Before the last address goes, so that no container waits for the controller. */
  growEarly(record: NetworkRecord, subnet: SubnetRecord): void {
    const used = this.used(record.id);
    const { free, total } = freeAddresses(this.#node, subnet, this.of(record.id), used);
    if (free * 4 < total)
      this.grow(record, subnet).catch((error: unknown) =>
        this.#modules.log.info(
          { network: record.id, err: error },
          "could not get a further address block; asked again when one is needed",
        ),
      );
  }

  /**
   * Periodically: blocks nobody here has used for a while go back, so that others, or a container
   * with `--ip` on another host, can have them.
   */
  async returnEmpty(nowMs: number): Promise<void> {
    const { state } = this.#modules.replication.tables;
    this.#returnedBlocks.forget(this.#node, state);
    const own = (state?.blocks ?? []).filter(({ node }) => node === this.#node);
    const held = new Set(own.map(keyOf));
    for (const key of this.#emptySinceMs.keys()) if (!held.has(key)) this.#emptySinceMs.delete(key);
    for (const given of own) {
      const { network, block } = given;
      const key = keyOf(given);
      if (this.#isUsed(network, block) || !this.#isLent(state, given)) {
        this.#emptySinceMs.delete(key);
        continue;
      }
      const since = this.#emptySinceMs.get(key) ?? nowMs;
      this.#emptySinceMs.set(key, since);
      // One whose answer was lost is given back again.
      if (nowMs - since < this.#returnAfterMs && !this.#returnedBlocks.has(network, block))
        continue;
      await this.#giveBack(network, block);
      this.#emptySinceMs.delete(key);
    }
  }

  /** It came from the ranges of which hosts have blocks for a while. */
  #isLent(state: ClusterState | undefined, { network, block }: BlockRecord): boolean {
    const record = state?.networks.find(({ id }) => id === network);
    return !isDockersPart(record?.subnets ?? [], block);
  }

  #giveBack(network: NetworkId, block: Cidr): Promise<void> {
    return this.#returnedBlocks.giveBack({ network, block }, () =>
      this.#modules.controller.request({ v: 1, kind: "returnBlock", network, block }, "done"),
    );
  }

  async #giveBackLate({ network, block }: BlockRecord): Promise<void> {
    try {
      await this.#giveBack(network, block);
    } catch (error) {
      // Then with the blocks that nobody here has used for a while.
      this.#modules.log.info(
        { network, block, err: error },
        "returning the address block failed; tried again",
      );
    }
  }

  /**
   * For good: until Docker has told the network's name, its `--ip-range` is not known either, and
   * with that another part of the subnet may become Docker's. The controller may know already.
   */
  #holds({ id, name, subnets }: NetworkRecord, ip: Ip): boolean {
    const around = new BlockIndex(this.of(id)).around(ip);
    if (around?.node !== this.#node) return false;
    return name !== undefined || !isDockersPart(subnets, around.block);
  }

  async #allot(network: NetworkId, family: Family): Promise<void> {
    const { controller, localNetworks } = this.#modules;
    const answer = await controller.request({ v: 1, kind: "allotBlock", network, family }, "block");
    this.#returnedBlocks.granted(answer.block);
    localNetworks.keyCame(network, answer.key);
  }

  #isUsed(network: NetworkId, block: Cidr): boolean {
    return [...this.used(network)].some((ip) => cidrContains(block, ip));
  }
}

function keyOf({ network, block }: BlockRecord): string {
  return `${network} ${block}`;
}
