import type { BlockRecord, NetworkRecord, SubnetRecord } from "../shared/cluster-state.ts";
import { hex } from "../shared/codec.ts";
import { asFailure, assert, OverlayError } from "../shared/errors.ts";
import type { NetworkId, NodeId } from "../shared/ids.ts";
import {
  Cidr,
  cidrContains,
  type Family,
  familyOf,
  hostCidr,
  type Ip,
  numberToIp,
  rangeOf,
} from "../shared/ip.ts";
import type { Log, Random } from "../shared/ports.ts";
import { freeSubnet, isDockersPart } from "../shared/subnets.ts";
import { oneLine } from "../shared/text.ts";
import type { Bindings, Pool as SavedPool } from "./bindings.ts";
import type { ControllerLink } from "./controller-link.ts";
import { checkHostAddress, freeAddresses, nextAddress } from "./core/addresses.ts";
import { ANOTHER_ADDRESS } from "./core/clash.ts";
import { blockAround } from "./core/desired.ts";
import type { IpamDriver, Pool, RequestAddress, RequestPool } from "./docker/port.ts";
import { GivenBack } from "./given-back.ts";
import type { Hosting } from "./hosting.ts";
import { InTurn } from "./in-turn.ts";
import type { Replication } from "./replication.ts";

const RETURN_AFTER_MS = 5 * 60_000;

export interface IpamModules {
  readonly replication: Pick<Replication, "tables">;
  readonly bindings: Bindings;
  readonly hosting: Pick<Hosting, "record" | "keyCame" | "endpoints">;
  readonly controller: Pick<ControllerLink, "request">;
  readonly random: Random;
  readonly log: Log;
}

/**
 * Addresses from this host's own blocks, with no round trip; the controller is asked for the first
 * block, for more when few are left, and for addresses given by name.
 */
export class OverlayIpam implements IpamDriver {
  readonly #node: NodeId;
  readonly #modules: IpamModules;
  /** By pool: the address given last. */
  readonly #last = new Map<string, Ip>();
  readonly #emptySinceMs = new Map<string, number>();
  readonly #growing = new Map<string, Promise<void>>();
  readonly #owning = new InTurn<string>();
  readonly #givenBack: GivenBack;

  constructor(node: NodeId, modules: IpamModules) {
    this.#node = node;
    this.#modules = modules;
    this.#givenBack = new GivenBack(modules.bindings);
  }

  /** Of which network it is, CreateNetwork tells. */
  async requestPool({ subnet, range, ipv6 }: RequestPool): Promise<Pool> {
    const { bindings, replication, random } = this.#modules;
    const { state } = replication.tables;
    if (state === undefined) throw notJoined();
    const chosen = subnet ?? freeSubnet(state, random, ipv6 ? 6 : 4);
    const id = `p-${hex(random.bytes(8))} ${chosen}`;
    bindings.addPool({ id, subnet: chosen, ...(range === undefined ? {} : { range }) });
    return { id, subnet: chosen };
  }

  releasePool(pool: string): Promise<void> {
    this.#modules.bindings.removePool(pool);
    return Promise.resolve();
  }

  async requestAddress(
    request: RequestAddress,
    signal: AbortSignal,
  ): Promise<{ ip: Ip; subnet: Pool["subnet"] }> {
    const pool = this.#pool(request.pool);
    const { subnet } = pool;
    if (request.purpose === "gateway") return { ip: this.#gateway(pool, request.ip), subnet };
    // `--aux-address`, before there is a network: CreateNetwork says it again, and then it counts.
    if (pool.network === undefined && request.ip !== undefined)
      return { ip: checkHostAddress({ subnet }, request.ip), subnet };
    const network = pool.network ?? this.#bySubnet(request.pool);
    const record = this.#modules.hosting.record(network);
    const held =
      record.subnets.find((candidate) => candidate.subnet === subnet) ??
      subnetOf(record, familyOf(subnet));
    const ip =
      request.ip === undefined
        ? await this.#choose(record, held, signal)
        : await this.#named(record, held, request.ip, signal);
    return { ip, subnet };
  }

  releaseAddress(pool: string, ip: Ip): Promise<void> {
    const network = this.#modules.bindings.pool(pool)?.network;
    if (network !== undefined) this.#modules.bindings.release(network, ip);
    return Promise.resolve();
  }

  /** One address of each of the network's subnets, for this host itself. */
  async allot(record: NetworkRecord, signal: AbortSignal): Promise<Ip[]> {
    const ips: Ip[] = [];
    for (const subnet of record.subnets) ips.push(await this.#choose(record, subnet, signal));
    return ips;
  }

  giveBack(network: NetworkId, ips: readonly Ip[]): void {
    for (const ip of ips) this.#modules.bindings.release(network, ip);
  }

  /** Docker's own IPAM chose it: is it this host's to give? Asks the controller when it is nobody's. */
  async claim(record: NetworkRecord, ip: Ip, signal: AbortSignal): Promise<void> {
    const subnet = record.subnets.find((candidate) => cidrContains(candidate.subnet, ip));
    checkHostAddress(subnet ?? subnetOf(record, familyOf(ip)), ip);
    try {
      await this.#own(record, ip, signal);
    } catch (error) {
      if (!(error instanceof OverlayError) || error.code !== "CONFLICT") throw error;
      const { message } = error;
      throw new OverlayError(
        { code: "CONFLICT", message, next: ANOTHER_ADDRESS },
        { cause: error },
      );
    }
  }

  /**
   * Periodically: blocks nobody here has used for a while go back, so that others, or a container
   * with `--ip` on another host, can have them.
   */
  async returnEmpty(nowMs: number): Promise<void> {
    const { replication, controller } = this.#modules;
    this.#givenBack.forget(this.#node, replication.tables.state);
    for (const { network, block, node } of replication.tables.state?.blocks ?? []) {
      const key = `${network} ${block}`;
      const record = replication.tables.state?.networks.find(({ id }) => id === network);
      const lent = !isDockersPart(record?.subnets ?? [], block);
      if (node !== this.#node || !lent || this.#isUsed(network, block)) {
        this.#emptySinceMs.delete(key);
        continue;
      }
      const since = this.#emptySinceMs.get(key) ?? nowMs;
      this.#emptySinceMs.set(key, since);
      // One whose answer was lost is given back again.
      if (nowMs - since < RETURN_AFTER_MS && !this.#givenBack.has(network, block)) continue;
      this.#givenBack.asking(network, block);
      let done = false;
      try {
        await controller.request({ v: 1, kind: "returnBlock", network, block }, "done");
        done = true;
      } finally {
        this.#givenBack.asked(network, block, done);
      }
      this.#emptySinceMs.delete(key);
    }
  }

  #pool(id: string): SavedPool {
    const { bindings } = this.#modules;
    if (bindings.pool(id) === undefined) this.#bySubnet(id);
    const held = bindings.pool(id);
    assert(held !== undefined, "a pool that was found is kept");
    return held;
  }

  /** After our database was lost: Docker goes on using the pool. @throws NOT_FOUND */
  #bySubnet(id: string): NetworkId {
    const { bindings, replication } = this.#modules;
    const subnet = Cidr.safeParse(id.split(" ")[1]);
    const shown = new Set(bindings.networks().values());
    const networks = (replication.tables.state?.networks ?? []).filter(({ subnets }) =>
      subnets.some((candidate) => candidate.subnet === subnet.data),
    );
    // Which networks this engine has, the engine may not have told again yet.
    const here = networks.filter(({ id: network }) => shown.has(network));
    const [network, ...others] = here.length > 0 ? here : networks;
    if (!subnet.success || network === undefined || others.length > 0) throw unknownPool(id);
    bindings.addPool({ id, subnet: subnet.data, network: network.id });
    return network.id;
  }

  /** The network's, or the one that it will have. @throws INVALID */
  #gateway({ subnet, network }: SavedPool, asked: Ip | undefined): Ip {
    const record = network === undefined ? undefined : this.#modules.hosting.record(network);
    const held = record?.subnets.find((candidate) => candidate.subnet === subnet)?.gateway;
    if (held !== undefined && asked !== undefined && asked !== held)
      throw new OverlayError({
        code: "CONFLICT",
        message: `network ${record?.name ?? network} has the gateway ${held}, not ${asked}`,
        next: "leave --gateway away, or give the network's own",
      });
    const { first, family } = rangeOf(subnet);
    return held ?? checkHostAddress({ subnet }, asked ?? numberToIp(first + 1n, family));
  }

  async #choose(record: NetworkRecord, subnet: SubnetRecord, signal: AbortSignal): Promise<Ip> {
    const key = `${record.id} ${subnet.subnet}`;
    const free = (): Ip | undefined =>
      nextAddress(
        this.#node,
        subnet,
        this.#blocks(record.id),
        this.#used(record.id),
        this.#last.get(key),
      );
    // Others may take what a new block brings before we look: as often as there are askers.
    for (let attempt = 0; attempt < 10; attempt++) {
      const ip = free();
      if (ip !== undefined) {
        this.#modules.bindings.reserve(record.id, ip);
        this.#last.set(key, ip);
        this.#growEarly(record, subnet);
        return ip;
      }
      await this.#grow(record, subnet);
      signal.throwIfAborted();
    }
    throw new OverlayError({
      code: "FULL",
      message: `no address of network ${record.name ?? record.id} is free on this host`,
      next: "stop containers that are not needed",
    });
  }

  async #named(
    record: NetworkRecord,
    subnet: SubnetRecord,
    ip: Ip,
    signal: AbortSignal,
  ): Promise<Ip> {
    checkHostAddress(subnet, ip);
    if (this.#used(record.id).has(ip))
      throw new OverlayError({
        code: "CONFLICT",
        message: `${ip} is used by another container on this host`,
        next: "choose another --ip, or none; see `overlay-ts endpoint ls`",
      });
    // Before the round trip: a second asker in the meantime finds it used.
    this.#modules.bindings.reserve(record.id, ip);
    try {
      await this.#own(record, ip, signal);
    } catch (error) {
      this.#modules.bindings.release(record.id, ip);
      throw error;
    }
    return ip;
  }

  /** Given out, or a container has it still: Docker may release an address before its endpoint goes. */
  #used(network: NetworkId): ReadonlySet<Ip> {
    const { bindings, hosting } = this.#modules;
    const held = hosting.endpoints(network).flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]);
    return new Set([...bindings.used(network), ...held.filter((ip) => ip !== undefined)]);
  }

  #isUsed(network: NetworkId, block: Cidr): boolean {
    return [...this.#used(network)].some((ip) => cidrContains(block, ip));
  }

  /**
   * The address lies in a block of this host. In turn: what a call that came too late gives back,
   * another has not been told of yet.
   */
  #own(record: NetworkRecord, ip: Ip, signal: AbortSignal): Promise<void> {
    return this.#owning.run(`${record.id} ${ip}`, async () => {
      signal.throwIfAborted();
      if (this.#holds(record, ip)) return;
      this.#givenBack.check(record.id, ip);
      const { controller, hosting } = this.#modules;
      const { block, key } = await controller.request(
        { v: 1, kind: "grantAddress", network: record.id, ip },
        "block",
      );
      this.#givenBack.granted(block);
      hosting.keyCame(record.id, key);
      // Else it was in a block of ours before.
      if (signal.aborted && block.block === hostCidr(ip)) await this.#giveBack(block);
      signal.throwIfAborted();
    });
  }

  /**
   * For good: until Docker has told the network's name, its `--ip-range` is not known either, and
   * with that another part of the subnet may become Docker's. The controller may know already.
   */
  #holds({ id, name, subnets }: NetworkRecord, ip: Ip): boolean {
    const around = blockAround(this.#blocks(id), ip);
    if (around?.node !== this.#node) return false;
    return name !== undefined || !isDockersPart(subnets, around.block);
  }

  async #giveBack({ network, block }: BlockRecord): Promise<void> {
    const { controller, log } = this.#modules;
    this.#givenBack.asking(network, block);
    let done = false;
    try {
      await controller.request({ v: 1, kind: "returnBlock", network, block }, "done");
      done = true;
    } catch (error) {
      // Then with the blocks that nobody here has used for a while.
      log.info({ network, block, message: asFailure(error).message }, "not given back yet");
    } finally {
      this.#givenBack.asked(network, block, done);
    }
  }

  /** Asked for by several containers at once, the next block comes once. */
  #grow(record: NetworkRecord, { subnet }: SubnetRecord): Promise<void> {
    const family = familyOf(subnet);
    const key = `${record.id} ${family}`;
    let growing = this.#growing.get(key);
    if (growing === undefined) {
      growing = this.#allot(record.id, family).finally(() => this.#growing.delete(key));
      this.#growing.set(key, growing);
    }
    return growing;
  }

  async #allot(network: NetworkId, family: Family): Promise<void> {
    const { controller, hosting } = this.#modules;
    const answer = await controller.request({ v: 1, kind: "allotBlock", network, family }, "block");
    this.#givenBack.granted(answer.block);
    hosting.keyCame(network, answer.key);
  }

  /** Before the last address goes, so that no container waits for the controller. */
  #growEarly(record: NetworkRecord, subnet: SubnetRecord): void {
    const { log } = this.#modules;
    const used = this.#used(record.id);
    const { free, total } = freeAddresses(this.#node, subnet, this.#blocks(record.id), used);
    if (free * 4 < total)
      this.#grow(record, subnet).catch((error: unknown) =>
        log.info({ network: record.id, message: asFailure(error).message }, "no further block"),
      );
  }

  #blocks(network: NetworkId): BlockRecord[] {
    const { state } = this.#modules.replication.tables;
    const blocks = (state?.blocks ?? []).filter((block) => block.network === network);
    return this.#givenBack.usable(this.#node, blocks);
  }
}

function subnetOf(record: NetworkRecord, family: Family): SubnetRecord {
  const found = record.subnets.find(({ subnet }) => familyOf(subnet) === family);
  if (found !== undefined) return found;
  throw new OverlayError({
    code: "INVALID",
    message: `network ${record.name ?? record.id} has no IPv${family} subnet`,
  });
}

function unknownPool(pool: string): OverlayError {
  return new OverlayError({
    code: "NOT_FOUND",
    message: `overlay-ts on this host knows no address pool ${oneLine(pool, 80)}`,
    next: "its database was lost: remove and create the network on this engine again",
  });
}

export function notJoined(): OverlayError {
  return new OverlayError({
    code: "NOT_JOINED",
    message: "this host is not a member of an overlay-ts cluster",
    next: "run `overlay-ts init` on the first host, `overlay-ts join` on the others",
  });
}
