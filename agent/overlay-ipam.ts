import type { BlockRecord, NetworkRecord, SubnetRecord } from "../shared/cluster-state.ts";
import { hex } from "../shared/codec.ts";
import { asFailure, OverlayError } from "../shared/errors.ts";
import type { NetworkId, NodeId } from "../shared/ids.ts";
import {
  Cidr,
  cidrContains,
  cidrContainsCidr,
  familyOf,
  type Ip,
  ipToNumber,
  numberToIp,
  prefixLength,
  rangeOf,
} from "../shared/ip.ts";
import type { Log, Random } from "../shared/ports.ts";
import { freeSubnet } from "../shared/subnets.ts";
import type { Bindings, Pool as SavedPool } from "./bindings.ts";
import type { ControllerLink } from "./controller-link.ts";
import { freeAddresses, isReserved, nextAddress } from "./core/addresses.ts";
import { blockHolder } from "./core/desired.ts";
import type { IpamDriver, Pool, RequestAddress, RequestPool } from "./docker/port.ts";
import type { Hosting } from "./hosting.ts";
import type { Replication } from "./replication.ts";

const RETURN_AFTER_MS = 5 * 60_000;

export interface IpamModules {
  readonly replication: Pick<Replication, "tables">;
  readonly bindings: Bindings;
  readonly hosting: Pick<Hosting, "record" | "keyCame">;
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
  readonly #last = new Map<NetworkId, Ip>();
  readonly #emptySinceMs = new Map<string, number>();
  readonly #growing = new Map<NetworkId, Promise<void>>();

  constructor(node: NodeId, modules: IpamModules) {
    this.#node = node;
    this.#modules = modules;
  }

  /** Of which network it is, CreateNetwork tells. */
  async requestPool({ subnet, range, ipv6 }: RequestPool): Promise<Pool> {
    const { bindings, replication, random } = this.#modules;
    if (ipv6)
      throw new OverlayError({
        code: "UNSUPPORTED",
        message: "overlay-ts networks are IPv4 in this version",
        next: "leave --ipv6 away",
      });
    const { state } = replication.tables;
    if (state === undefined) throw notJoined();
    const chosen = subnet ?? freeSubnet(state, random);
    const id = `p-${hex(random.bytes(8))} ${chosen}`;
    bindings.addPool({ id, subnet: chosen, ...(range === undefined ? {} : { range }) });
    return { id, subnet: chosen };
  }

  releasePool(pool: string): Promise<void> {
    this.#modules.bindings.removePool(pool);
    return Promise.resolve();
  }

  async requestAddress(request: RequestAddress): Promise<{ ip: Ip; subnet: Pool["subnet"] }> {
    let pool = this.#pool(request.pool);
    const { subnet } = pool;
    // While a network is made Docker asks for its gateway and auxiliary addresses, all of them named.
    if (pool.network === undefined && request.purpose === "endpoint" && request.ip === undefined)
      pool = this.#bySubnet(request.pool);
    if (request.purpose === "gateway" || pool.network === undefined)
      return { ip: request.ip ?? this.#gateway(pool), subnet };
    const record = this.#modules.hosting.record(pool.network);
    const held =
      record.subnets.find((candidate) => candidate.subnet === subnet) ?? subnetOf(record, 4);
    const ip =
      request.ip === undefined
        ? await this.#choose(record, held)
        : await this.#named(record, held, request.ip);
    return { ip, subnet };
  }

  releaseAddress(pool: string, ip: Ip): Promise<void> {
    const network = this.#modules.bindings.pool(pool)?.network;
    if (network !== undefined) this.#modules.bindings.release(network, ip);
    return Promise.resolve();
  }

  /** Docker's own IPAM chose it: is it this host's to give? Asks the controller when it is nobody's. */
  async claim(record: NetworkRecord, ip: Ip): Promise<void> {
    if (blockHolder(this.#blocks(record.id), ip) === this.#node) return;
    await this.#grant(record, ip);
  }

  /**
   * Periodically: blocks nobody here has used for a while go back, so that others, or a container
   * with `--ip` on another host, can have them.
   */
  async returnEmpty(nowMs: number): Promise<void> {
    const { replication, bindings, controller } = this.#modules;
    for (const { network, block, node } of replication.tables.state?.blocks ?? []) {
      const key = `${network} ${block}`;
      const record = replication.tables.state?.networks.find(({ id }) => id === network);
      // The lower half that Docker's own IPAM fills is this host's for good.
      const lent =
        prefixLength(block) === 32 ||
        record?.subnets.some(({ dynamicRanges }) =>
          dynamicRanges.some((range) => cidrContainsCidr(range, block)),
        ) === true;
      const used = [...bindings.used(network)].some((ip) => cidrContains(block, ip));
      if (node !== this.#node || !lent || used) {
        this.#emptySinceMs.delete(key);
        continue;
      }
      const since = this.#emptySinceMs.get(key) ?? nowMs;
      this.#emptySinceMs.set(key, since);
      if (nowMs - since < RETURN_AFTER_MS) continue;
      await controller.request({ v: 1, kind: "returnBlock", network, block }, "done");
      this.#emptySinceMs.delete(key);
    }
  }

  #pool(id: string): SavedPool {
    return this.#modules.bindings.pool(id) ?? this.#bySubnet(id);
  }

  /** After our database was lost: Docker goes on using the pool. @throws NOT_FOUND */
  #bySubnet(id: string): SavedPool {
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
    return this.#pool(id);
  }

  #gateway(pool: { subnet: Pool["subnet"]; network?: NetworkId | undefined }): Ip {
    if (pool.network !== undefined) {
      const record = this.#modules.hosting.record(pool.network);
      const held = record.subnets.find(({ subnet }) => subnet === pool.subnet);
      if (held !== undefined) return held.gateway;
    }
    const { first, family } = rangeOf(pool.subnet);
    return numberToIp(first + 1n, family);
  }

  async #choose(record: NetworkRecord, subnet: SubnetRecord): Promise<Ip> {
    const free = (): Ip | undefined =>
      nextAddress(
        this.#node,
        subnet,
        this.#blocks(record.id),
        this.#modules.bindings.used(record.id),
        this.#last.get(record.id),
      );
    // Others may take what a new block brings before we look: as often as there are askers.
    for (let attempt = 0; attempt < 10; attempt++) {
      const ip = free();
      if (ip !== undefined) {
        this.#modules.bindings.reserve(record.id, ip);
        this.#last.set(record.id, ip);
        this.#growEarly(record, subnet);
        return ip;
      }
      await this.#grow(record);
    }
    throw new OverlayError({
      code: "FULL",
      message: `no address of network ${record.name ?? record.id} is free on this host`,
      next: "stop containers that are not needed",
    });
  }

  async #named(record: NetworkRecord, subnet: SubnetRecord, ip: Ip): Promise<Ip> {
    if (!cidrContains(subnet.subnet, ip) || isReserved(subnet, ipToNumber(ip)))
      throw new OverlayError({
        code: "INVALID",
        message: `${ip} is no free address of ${subnet.subnet} (gateway ${subnet.gateway}, kept ${(subnet.reserved ?? []).join(", ") || "none"})`,
      });
    if (this.#modules.bindings.used(record.id).has(ip))
      throw new OverlayError({
        code: "CONFLICT",
        message: `${ip} is used by another container on this host`,
      });
    // Before the round trip: a second asker in the meantime finds it used.
    this.#modules.bindings.reserve(record.id, ip);
    try {
      if (blockHolder(this.#blocks(record.id), ip) !== this.#node) await this.#grant(record, ip);
    } catch (error) {
      this.#modules.bindings.release(record.id, ip);
      throw error;
    }
    return ip;
  }

  async #grant(record: NetworkRecord, ip: Ip): Promise<void> {
    const answer = await this.#modules.controller.request(
      { v: 1, kind: "grantAddress", network: record.id, ip },
      "block",
    );
    this.#modules.hosting.keyCame(record.id, answer.key);
  }

  /** Asked for by several containers at once, the next block comes once. */
  #grow(record: NetworkRecord): Promise<void> {
    let growing = this.#growing.get(record.id);
    if (growing === undefined) {
      growing = this.#allot(record.id).finally(() => this.#growing.delete(record.id));
      this.#growing.set(record.id, growing);
    }
    return growing;
  }

  async #allot(network: NetworkId): Promise<void> {
    const { controller, hosting } = this.#modules;
    const answer = await controller.request({ v: 1, kind: "allotBlock", network }, "block");
    hosting.keyCame(network, answer.key);
  }

  /** Before the last address goes, so that no container waits for the controller. */
  #growEarly(record: NetworkRecord, subnet: SubnetRecord): void {
    const { bindings, log } = this.#modules;
    const used = bindings.used(record.id);
    const { free, total } = freeAddresses(this.#node, subnet, this.#blocks(record.id), used);
    if (free * 4 < total)
      this.#grow(record).catch((error: unknown) =>
        log.info({ network: record.id, message: asFailure(error).message }, "no further block"),
      );
  }

  #blocks(network: NetworkId): BlockRecord[] {
    const { state } = this.#modules.replication.tables;
    return (state?.blocks ?? []).filter((block) => block.network === network);
  }
}

function subnetOf(record: NetworkRecord, family: 4 | 6): SubnetRecord {
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
    message: `overlay-ts on this host knows no address pool ${pool}`,
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
