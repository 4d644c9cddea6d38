import { Disk } from "../../agent/store/disk.ts";
import { Bindings } from "../../agent/bindings.ts";
import { GivenBack } from "../../agent/given-back.ts";
import { freeAddresses, nextAddress } from "../../agent/core/addresses.ts";
import { clashOf } from "../../agent/core/clash.ts";
import { blockAround, readNetwork } from "../../agent/core/desired.ts";
import type { BlockRecord, NetworkRecord, SubnetRecord } from "../../shared/cluster-state.ts";
import { hex } from "../../shared/codec.ts";
import { EndpointId, type NetworkId } from "../../shared/ids.ts";
import { type Cidr, cidrContains, familyOf, type Ip } from "../../shared/ip.ts";
import { isDockersPart } from "../../shared/subnets.ts";
import { Mac, ruleMac } from "../../shared/mac.ts";
import { type Container, endpointOf } from "./container.ts";
import type { SimAgent } from "./sim-agent.ts";

import type { Answer, Request } from "./sim-controller.ts";
import { chance, pick, type World } from "./world.ts";

const RETURN_PERIOD_MS = 400;
/** Five minutes in the real one. */
export const RETURN_AFTER_MS = 1000;
const ALIASES = ["web", "db", "cache"];

/**
 * Containers that Docker starts and stops on one host, and where their addresses come from: the core's
 * decisions, asked as agent/overlay-driver.ts and agent/overlay-ipam.ts ask them.
 */
export class SimDocker {
  readonly #agent: SimAgent;
  readonly #world: World;
  /** Addresses of containers that are about to start. */
  readonly #reserved = new Set<string>();
  readonly #last = new Map<Cidr, Ip>();
  readonly #emptySinceMs = new Map<string, number>();
  readonly #givenBack: GivenBack;
  /** One after the other. */
  #returning = false;

  constructor(agent: SimAgent, world: World) {
    this.#agent = agent;
    this.#world = world;
    this.#givenBack = new GivenBack(new Bindings(new Disk(agent.host.disk)));
  }

  start(): void {
    // A clone lives shorter than the five minutes after which the real one gives back.
    if (!this.#agent.host.isClone) this.#returnEmpty();
  }

  /** A container of a network that this host knows; `ip`: as with `--ip`. */
  run(network: NetworkId, ip?: Ip): void {
    const record = this.#agent.record(network);
    if (record === undefined || this.#stateIsOld()) this.#refuse("no network");
    else if (ip !== undefined) this.#runAt(record, ip);
    else this.#runAnywhere(record, 2);
  }

  /** After a disk was replaced, its blocks may be others' by now: nobody starts anything meanwhile. */
  #stateIsOld(): boolean {
    const { host, tables } = this.#agent;
    const { revision } = this.#world.controller.decided;
    return host.diskIsBehind() && (tables.state?.revision ?? 0) < revision;
  }

  stop(id: EndpointId): void {
    const { host } = this.#agent;
    const container = host.containers.get(id);
    if (container === undefined) return;
    const { monitor, faults, trace } = this.#world;
    trace(`h${host.k} stops ${container.ips.join()}`);
    faults.stopped++;
    host.containers.delete(id);
    monitor.stopped(container);
    this.#agent.remove(container.network, id);
  }

  /** Docker told of another health, or of a pause. */
  health(id: EndpointId, out: string | undefined): void {
    const container = this.#agent.host.containers.get(id);
    if (container === undefined || container.out === out) return;
    this.#world.faults.healthChanged++;
    container.out = out;
    this.#agent.amend(container.network, endpointOf(container));
  }

  ask(request: Request, answered: (answer: Answer) => void, failed: () => void = () => {}): void {
    const { alive } = this;
    this.#world.controller.ask(this.#agent.host, request, {
      answered: (answer) => {
        if (!alive()) return;
        this.#agent.stateCame(answer.state, "controller");
        if (alive()) answered(answer);
      },
      failed: () => {
        if (alive()) failed();
      },
    });
  }

  /** Networks that ended under their containers: somebody removes these. */
  stateChanged(): void {
    const { networks } = this.#world.controller.decided;
    for (const { id, network } of this.#agent.host.containers.values())
      if (this.#agent.isGone(network) && !networks.some((record) => record.id === network))
        this.stop(id);
  }

  readonly alive = (): boolean => this.#agent.alive;

  #runAnywhere(record: NetworkRecord, attempts: number): void {
    const ips: Ip[] = [];
    for (const subnet of record.subnets) {
      const used = this.#used(record.id);
      const last = this.#last.get(subnet.subnet);
      const ip = nextAddress(this.#agent.node, subnet, this.#blocks(record.id), used, last);
      if (ip === undefined) {
        this.#release(record.id, ips);
        this.#grow(record, subnet, attempts);
        return;
      }
      // Peers and caches may still mean its last holder.
      const others = new Set([...used, ip]);
      const blocks = this.#blocks(record.id);
      if (ip === last && nextAddress(this.#agent.node, subnet, blocks, others, undefined))
        this.#world.monitor.violation(`h${this.#agent.host.k} gives ${ip} again at once`);
      this.#last.set(subnet.subnet, ip);
      this.#reserved.add(`${record.id} ${ip}`);
      ips.push(ip);
    }
    this.#create(record, ips);
    this.#growEarly(record);
  }

  #grow({ id: network }: NetworkRecord, { subnet }: SubnetRecord, attempts: number): void {
    if (attempts === 0) {
      this.#refuse("no address");
      return;
    }
    this.ask(
      { v: 1, kind: "allotBlock", network, family: familyOf(subnet) },
      ({ block }) => {
        if (block !== undefined) this.#givenBack.granted(block);
        const record = this.#agent.record(network);
        if (record !== undefined) this.#runAnywhere(record, attempts - 1);
      },
      () => this.#refuse("no block"),
    );
  }

  /** Before the last address goes. */
  #growEarly(record: NetworkRecord): void {
    for (const subnet of record.subnets) {
      const blocks = this.#blocks(record.id);
      const { node } = this.#agent;
      const { free, total } = freeAddresses(node, subnet, blocks, this.#used(record.id));
      const family = familyOf(subnet.subnet);
      if (free * 4 < total)
        this.ask({ v: 1, kind: "allotBlock", network: record.id, family }, ({ block }) => {
          if (block !== undefined) this.#givenBack.granted(block);
        });
    }
  }

  #runAt(record: NetworkRecord, ip: Ip): void {
    if (this.#used(record.id).has(ip)) {
      this.#refuse("used here");
      return;
    }
    this.#reserved.add(`${record.id} ${ip}`);
    if (blockAround(this.#blocks(record.id), ip)?.node === this.#agent.node) {
      this.#create(record, [ip]);
      return;
    }
    try {
      this.#givenBack.check(record.id, ip);
    } catch {
      this.#release(record.id, [ip]);
      this.#refuse("being given back");
      return;
    }
    this.ask(
      { v: 1, kind: "grantAddress", network: record.id, ip },
      ({ block }) => {
        if (block !== undefined) this.#givenBack.granted(block);
        const now = this.#agent.record(record.id);
        if (now !== undefined) this.#create(now, [ip]);
        else this.#release(record.id, [ip]);
      },
      () => {
        this.#release(record.id, [ip]);
        this.#refuse("not granted");
      },
    );
  }

  #create(record: NetworkRecord, ips: readonly Ip[]): void {
    const { host, tables } = this.#agent;
    const { random } = this.#agent;
    const id = EndpointId.parse(hex(random.bytes(8)));
    const own = chance(random, 10) ? [0x06, ...random.bytes(5)] : undefined;
    const mac =
      own === undefined
        ? ruleMac(ips[0]!)
        : Mac.parse(own.map((byte) => hex(Uint8Array.of(byte))).join(":"));
    const alias = pick(random, ALIASES);
    const names = [`c${id.slice(0, 6)}`, ...(chance(random, 50) && alias ? [alias] : [])];
    const out = chance(random, 15) ? "starting" : undefined;
    const container: Container = { id, network: record.id, ips, mac, names, out };
    const endpoint = endpointOf(container);
    const clash = clashOf(endpoint, this.#agent.endpoints(record.id), readNetwork(tables, record));
    this.#release(record.id, ips);
    if (clash !== undefined) {
      this.#refuse("clash");
      return;
    }
    const { monitor, faults, trace } = this.#world;
    trace(`h${host.k} runs ${ips.join()} of ${record.name}`);
    monitor.addressGiven(host, record, ips);
    this.#agent.enter(record.id);
    if (!this.alive()) return;
    this.#agent.change(record.id, [endpoint], []);
    // The agent died in the midst: Docker was told that it failed.
    if (!this.alive()) return;
    faults.started++;
    host.containers.set(id, container);
    monitor.started(host, container);
  }

  #returnEmpty(): void {
    const { queue, faults } = this.#world;
    const { node, tables } = this.#agent;
    this.#givenBack.forget(node, tables.state);
    for (const { network, block, node: owner } of tables.state?.blocks ?? []) {
      if (owner !== node) continue;
      const key = `${network} ${block}`;
      const record = this.#agent.record(network);
      const lent = !isDockersPart(record?.subnets ?? [], block);
      const used = [...this.#used(network)].some((ip) => cidrContains(block, ip));
      if (!lent || used) {
        this.#emptySinceMs.delete(key);
        continue;
      }
      const since = this.#emptySinceMs.get(key) ?? queue.nowMs;
      this.#emptySinceMs.set(key, since);
      if (this.#returning) continue;
      if (queue.nowMs - since < RETURN_AFTER_MS && !this.#givenBack.has(network, block)) continue;
      this.#returning = true;
      this.#givenBack.asking(network, block);
      const end = (done: boolean): void => {
        this.#returning = false;
        this.#givenBack.asked(network, block, done);
      };
      this.ask(
        { v: 1, kind: "returnBlock", network, block },
        () => {
          faults.blocksReturned++;
          this.#emptySinceMs.delete(key);
          end(true);
        },
        () => end(false),
      );
    }
    queue.after(RETURN_PERIOD_MS, () => {
      if (this.alive()) this.#returnEmpty();
    });
  }

  /** Running, in our document, or about to start. */
  #used(network: NetworkId): Set<Ip> {
    const used = new Set<Ip>();
    for (const { ipv4, ipv6 } of this.#agent.endpoints(network))
      for (const ip of [ipv4, ipv6]) if (ip !== undefined) used.add(ip);
    for (const held of this.#agent.host.containers.values())
      if (held.network === network) for (const ip of held.ips) used.add(ip);
    for (const key of this.#reserved)
      if (key.startsWith(network)) used.add(key.slice(network.length + 1) as Ip);
    return used;
  }

  #blocks(network: NetworkId): BlockRecord[] {
    const { node, tables } = this.#agent;
    const blocks = tables.state?.blocks ?? [];
    return this.#givenBack.usable(
      node,
      blocks.filter((block) => block.network === network),
    );
  }

  #release(network: NetworkId, ips: readonly Ip[]): void {
    for (const ip of ips) this.#reserved.delete(`${network} ${ip}`);
  }

  #refuse(why: string): void {
    this.#world.faults.refused++;
    this.#world.trace(`h${this.#agent.host.k} starts nothing: ${why}`);
  }
}
