import type { BlockRecord, NetworkRecord, SubnetRecord } from "../../shared/cluster-state.ts";
import { hex } from "../../shared/codec.ts";
import { assert, OverlayError } from "../../shared/errors.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import {
  Cidr,
  cidrContains,
  type Family,
  familyOf,
  type Ip,
  numberToIp,
  rangeOf,
} from "../../shared/ip.ts";
import type { Random } from "../../shared/ports.ts";
import { freeSubnet } from "../../shared/subnets.ts";
import { oneLine } from "../../shared/text.ts";
import { type AddressPool, AddressPools } from "./address-pools.ts";
import type { Bindings } from "./bindings.ts";
import { OwnBlocks, type OwnBlocksModules, RETURN_AFTER_MS } from "./own-blocks.ts";
import { type AddressesLeft, checkHostAddress, freeAddresses, nextAddress } from "../core/ipam.ts";
import { ANOTHER_ADDRESS } from "../core/data-plane/endpoint-conflict.ts";
import { notJoined } from "../core/life.ts";
import type { IpamDriver, Pool, RequestAddress, RequestPool } from "./ipam-port.ts";
import type { EndpointRecovery } from "./endpoint-recovery.ts";
import type { LocalNetworks } from "./local-networks.ts";

export interface IpamModules extends OwnBlocksModules {
  readonly bindings: Pick<Bindings, "networks">;
  readonly localNetworks: Pick<LocalNetworks, "record" | "keyCame" | "endpoints">;
  readonly endpointRecovery: Pick<EndpointRecovery, "adopted">;
  readonly random: Random;
}

/**
 * Addresses from this host's own blocks, with no round trip; the controller is asked for the first
 * block, for more when few are left, and for addresses given by name.
 */
export class OverlayIpam implements IpamDriver {
  readonly #node: NodeId;
  readonly #modules: IpamModules;
  readonly pools: AddressPools;
  readonly #blocks: OwnBlocks;
  /** By pool: the address given last. */
  readonly #last = new Map<string, Ip>();

  constructor(node: NodeId, modules: IpamModules, returnAfterMs = RETURN_AFTER_MS) {
    this.#node = node;
    this.#modules = modules;
    this.pools = new AddressPools(modules.disk);
    this.#blocks = new OwnBlocks(node, modules, returnAfterMs);
  }

  /** Of which network it is, CreateNetwork tells. */
  async requestPool({ subnet, range, ipv6 }: RequestPool): Promise<Pool> {
    const { replication, random } = this.#modules;
    const { state } = replication.tables;
    if (state === undefined) throw notJoined();
    const chosen = subnet ?? freeSubnet(state, random, ipv6 ? 6 : 4);
    const id = `p-${hex(random.bytes(8))} ${chosen}`;
    this.pools.add({ id, subnet: chosen, ...(range === undefined ? {} : { range }) });
    return { id, subnet: chosen };
  }

  releasePool(pool: string): Promise<void> {
    this.pools.remove(pool);
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
    await this.#modules.endpointRecovery.adopted(network);
    const record = this.#modules.localNetworks.record(network);
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
    const network = this.pools.get(pool)?.network;
    if (network !== undefined) this.#modules.leases.release(network, ip);
    return Promise.resolve();
  }

  /** One address of each of the network's subnets, for this host itself. */
  async allot(record: NetworkRecord, signal: AbortSignal): Promise<Ip[]> {
    await this.#modules.endpointRecovery.adopted(record.id);
    const ips: Ip[] = [];
    for (const subnet of record.subnets) ips.push(await this.#choose(record, subnet, signal));
    return ips;
  }

  /** Of this host's own blocks of a subnet. `blocks`: of the network. */
  free({ id }: NetworkRecord, subnet: SubnetRecord, blocks: readonly BlockRecord[]): AddressesLeft {
    return freeAddresses(this.#node, subnet, blocks, this.#blocks.used(id));
  }

  /** See `OwnBlocks.returnEmpty`. */
  returnEmpty(nowMs: number): Promise<void> {
    return this.#blocks.returnEmpty(nowMs);
  }

  giveBack(network: NetworkId, ips: readonly Ip[]): void {
    for (const ip of ips) this.#modules.leases.release(network, ip);
  }

  /** Docker's own IPAM chose it: is it this host's to give? Asks the controller when it is nobody's. */
  async claim(record: NetworkRecord, ip: Ip, signal: AbortSignal): Promise<void> {
    await this.#modules.endpointRecovery.adopted(record.id);
    const subnet = record.subnets.find((candidate) => cidrContains(candidate.subnet, ip));
    checkHostAddress(subnet ?? subnetOf(record, familyOf(ip)), ip);
    try {
      await this.#blocks.own(record, ip, signal);
    } catch (error) {
      if (!(error instanceof OverlayError) || error.code !== "CONFLICT") throw error;
      const { message } = error;
      throw new OverlayError(
        { code: "CONFLICT", message, next: ANOTHER_ADDRESS },
        { cause: error },
      );
    }
  }

  #pool(id: string): AddressPool {
    if (this.pools.get(id) === undefined) this.#bySubnet(id);
    const held = this.pools.get(id);
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
    this.pools.add({ id, subnet: subnet.data, network: network.id });
    return network.id;
  }

  /** The network's, or the one that it will have. @throws INVALID */
  #gateway({ subnet, network }: AddressPool, asked: Ip | undefined): Ip {
    const record = network === undefined ? undefined : this.#modules.localNetworks.record(network);
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
        this.#blocks.of(record.id),
        this.#blocks.used(record.id),
        this.#last.get(key),
      );
    // Others may take what a new block brings before we look: as often as there are askers.
    for (let attempt = 0; attempt < 10; attempt++) {
      const ip = free();
      if (ip !== undefined) {
        this.#modules.leases.reserve(record.id, ip);
        this.#last.set(key, ip);
        this.#blocks.growEarly(record, subnet);
        return ip;
      }
      await this.#blocks.grow(record, subnet);
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
    if (this.#blocks.used(record.id).has(ip))
      throw new OverlayError({
        code: "CONFLICT",
        message: `${ip} is used by another container on this host`,
        next: "choose another --ip, or none; see `overlay-ts endpoint ls`",
      });
    // Before the round trip: a second asker in the meantime finds it used.
    this.#modules.leases.reserve(record.id, ip);
    try {
      await this.#blocks.own(record, ip, signal);
    } catch (error) {
      this.#modules.leases.release(record.id, ip);
      throw error;
    }
    return ip;
  }
}

function subnetOf(record: NetworkRecord, family: Family): SubnetRecord {
  const found = record.subnets.find(({ subnet }) => familyOf(subnet) === family);
  if (found !== undefined) return found;
  throw new OverlayError({
    code: "INVALID",
    message: `network ${record.name ?? record.id} has no IPv${family} subnet`,
    next: `make it again with one, or leave the IPv${family} address away`,
  });
}

function unknownPool(pool: string): OverlayError {
  return new OverlayError({
    code: "NOT_FOUND",
    message: `overlay-ts on this host knows no address pool ${oneLine(pool, 80)}`,
    next: "its database was lost: remove and create the network on this engine again",
  });
}
