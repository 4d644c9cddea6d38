import { nextAddress } from "../../agent/core/ipam.ts";
import { ContainerWatcher } from "../../agent/docker/container-watcher.ts";
import { WaysOut } from "../../agent/docker/ways-out.ts";
import { SandboxWays } from "../../agent/docker/sandbox-ways.ts";
import { EndpointDriver } from "../../agent/docker/endpoint-driver.ts";
import type { DockerEngine, EngineEvent } from "../../agent/docker/engine/port.ts";
import { OrphanSweeper } from "../../agent/docker/orphan-sweeper.ts";
import { referredNetworks } from "../../agent/docker/references.ts";
import type { Kernel } from "../../agent/kernel/port.ts";
import { ReturnedBlocks } from "../../agent/networks/returned-blocks.ts";
import type { NetworkRecord, SubnetRecord } from "../../shared/cluster-state.ts";
import { hex } from "../../shared/codec.ts";
import { familiesOf } from "../../shared/documents.ts";
import { OverlayError } from "../../shared/errors.ts";
import { EndpointId, type NetworkId } from "../../shared/ids.ts";
import type { Cidr, Ip } from "../../shared/ip.ts";
import { Mac, ruleMac } from "../../shared/mac.ts";
import type { Clock, Log, Timers } from "../../shared/ports.ts";
import {
  type Container,
  containerIdOf,
  inspected,
  listed,
  type Out,
  sandboxOf,
  shownAs,
} from "./container.ts";
import type { SimAgent } from "./sim-agent.ts";
import { chance, pick, type World } from "./world.ts";

const RETURN_PERIOD_MS = 400;
/** Half a minute in the real one. */
const UNLISTED_MS = 3000;
const LISTEN_AGAIN_MS = 200;
const ALIASES = ["web", "db", "cache"];
const NEVER = new AbortController().signal;

/** What the real parts need of the agent beside its networks. */
export interface SimDockerNeeds {
  readonly kernel: Kernel;
  readonly clock: Pick<Clock, "nowMs">;
  readonly timers: Timers;
  readonly log: Log;
}

/** One host's engine: it starts and stops containers by calls to the real drivers, and tells the real watcher. */
export class SimDocker {
  readonly #agent: SimAgent;
  readonly #world: World;
  readonly #driver: EndpointDriver;
  readonly #watcher: ContainerWatcher;
  readonly #sweeper: OrphanSweeper;
  #beganAtOnce = false;
  #isDirty = false;
  /** Endpoints whose containers begin. */
  readonly #joining = new Map<EndpointId, NetworkId>();
  /** The address given last. */
  readonly #last = new Map<Cidr, Ip>();

  constructor(agent: SimAgent, world: World, needs: SimDockerNeeds) {
    this.#agent = agent;
    this.#world = world;
    const { node: self, networks, nameServerFeed } = agent;
    const shared = { ...needs, ...networks, self, nameServerFeed, engine: this.#engine() };
    const containerWatcher = (this.#watcher = new ContainerWatcher(shared));
    const sandboxWays = new SandboxWays({ disk: agent.disk, joined: [], isThere: () => true });
    const egress = { blocked: () => undefined };
    const waysOut = new WaysOut({ ...shared, egress, sandboxWays });
    this.#driver = new EndpointDriver({ ...shared, containerWatcher, waysOut });
    this.#sweeper = new OrphanSweeper(shared, UNLISTED_MS);
  }

  start(): void {
    // A clone lives shorter than the five minutes after which the real one gives back.
    if (!this.#agent.host.isClone) void this.#returnEmpty();
    this.#listen();
  }

  /** What the engine has is compared once more with the tables, but once for all that is told at a time. */
  dirty(): void {
    this.#beginAtOnce();
    if (this.#isDirty) return;
    this.#isDirty = true;
    this.#agent.later(this.#world.options.coalesceMs, () => {
      this.#isDirty = false;
      void this.#pass();
    });
  }

  /** A container of a network that this host knows; `ip`: as with `--ip`. */
  run(network: NetworkId, ip?: Ip): void {
    const record = this.#agent.localNetworks.find(network);
    if (record === undefined || this.#stateIsOld()) this.#refuse("no network");
    else void this.#run(record, ip);
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
    void this.#ended(container);
  }

  /** The engine has; whether it ends in the cluster is decided now, and asked again by who calls. */
  async removeNetwork(network: NetworkId): Promise<void> {
    const { bindings, networkRemoval } = this.#agent.networks;
    bindings.markRemoved(network);
    // The controller may be away.
    await networkRemoval.decide(network).catch(() => {});
  }

  /** Another health, a pause, or `docker stop`, which nothing takes back. */
  health(id: EndpointId, out: Out | undefined): void {
    const container = this.#agent.host.containers.get(id);
    if (container === undefined || container.out === out || container.out === "stopping") return;
    this.#world.faults.healthChanged++;
    if (container.out === "paused") this.#happened(container, "unpause");
    container.out = out;
    if (out === "paused") this.#happened(container, "pause");
    else if (out === "stopping") this.#happened(container, "kill", { signal: "15" });
    else this.#happened(container, `health_status: ${inspected(container).health}`);
  }

  #engine(): Pick<DockerEngine, "inspect" | "attachments" | "remembered"> {
    const { host, random } = this.#agent;
    const later = <T>(answer: T): Promise<T> =>
      new Promise((resolve) => this.#agent.later(1 + random.below(20), () => resolve(answer)));
    return {
      inspect: (id) => {
        const found = [...host.containers.values()].find((held) => containerIdOf(held.id) === id);
        return later(found && inspected(found));
      },
      attachments: (docker) => {
        const here = [...host.containers.values()].map(({ id, network }) => [id, network] as const);
        const on = [...this.#joining, ...here].filter(([, network]) => shownAs(network) === docker);
        const endpoints = on.map(([endpoint]) => ({
          endpoint,
          container: this.#joining.has(endpoint) ? undefined : containerIdOf(endpoint),
        }));
        return later({ name: docker, internal: false, endpoints });
      },
      remembered: () => later([...host.remembered]),
    };
  }

  /** Events of now on: what happened before is found by comparing. */
  #listen(): void {
    this.#watcher.happened({ kind: "listening" });
    this.dirty();
  }

  /** To who listens; the stream may break, and is opened again. */
  #happened({ id }: Container, action: string, attributes: Record<string, string> = {}): void {
    const container = containerIdOf(id);
    const atMs = this.#world.queue.nowMs;
    const event = { kind: "container", action, container, attributes, atMs } as const;
    if (action === "kill" || action === "pause") this.#agent.host.remembered.push(event);
    this.#tell(event);
  }

  #tell(event: EngineEvent): void {
    const { random } = this.#agent;
    if (this.#world.faulty && chance(random, 5)) {
      this.#world.faults.eventsLost++;
      this.#agent.later(LISTEN_AGAIN_MS, () => this.#listen());
    } else this.#agent.later(1, () => this.#watcher.happened(event));
  }

  /**
   * As agent/docker/network-sync.ts, without the views. Containers of networks that ended under them are removed
   * by somebody.
   */
  async #pass(): Promise<void> {
    const { host, networks, tables } = this.#agent;
    if (tables.state === undefined) return;
    const { decided } = this.#world.controller;
    for (const { id, network } of host.containers.values())
      if (this.#agent.isGone(network) && !decided.networks.some((record) => record.id === network))
        this.stop(id);
    const containers = [...host.containers.values()];
    for (const { network } of containers) this.#show(network);
    const list = containers.map(listed);
    this.#watcher.listed(list);
    const bound = networks.bindings.networks();
    networks.localNetworks.refer(referredNetworks(list, tables.state.networks, bound));
    // A liar says what the engine does not have.
    if (!host.lies) await this.#sweeper.dropEndpoints();
    this.#sweeper.releaseAddresses();
    const dueInMs = this.#sweeper.dueInMs();
    if (dueInMs < Infinity) this.#agent.later(Math.max(1, dueInMs + 1), () => this.dirty());
  }

  /**
   * A restart policy does not wait: where the disk was lost, a container begins on a network that the kernel has
   * in the moment in which a state names it.
   */
  #beginAtOnce(): void {
    const { host, localNetworks, random } = this.#agent;
    if (this.#beganAtOnce || !host.diskIsBehind()) return;
    const known = host.kernel.listNow().filter((network) => localNetworks.find(network));
    const network = pick(random, known);
    if (network === undefined) return;
    this.#beganAtOnce = true;
    this.run(network);
  }

  /** Docker's calls when a container ends. */
  async #ended(container: Container): Promise<void> {
    const { network, id, ips } = container;
    await this.#driver.leave(id);
    await this.#driver.delete(shownAs(network), id);
    this.#agent.networks.ipam.giveBack(network, ips);
    this.#happened(container, "die");
    this.#happened(container, "destroy");
    this.dirty();
  }

  /** The engine has the network. */
  #show(network: NetworkId): void {
    const { bindings } = this.#agent.networks;
    const docker = shownAs(network);
    if (bindings.network(docker) === undefined) bindings.bind(docker, network);
  }

  /** After a disk was replaced, its blocks may be others' by now: nobody starts anything meanwhile. */
  #stateIsOld(): boolean {
    const { host, tables } = this.#agent;
    const { revision } = this.#world.controller.decided;
    return host.diskIsBehind() && (tables.state?.revision ?? 0) < revision;
  }

  async #run(record: NetworkRecord, ip: Ip | undefined): Promise<void> {
    const ips: Ip[] = [];
    try {
      for (const subnet of record.subnets) ips.push(await this.#address(record, subnet, ip));
      if (this.#agent.alive) await this.#create(record, ips);
    } catch (error) {
      if (!(error instanceof OverlayError)) throw error;
      if (!this.#agent.alive) return;
      this.#agent.networks.ipam.giveBack(record.id, ips);
      this.#refuse(error.code);
    }
  }

  async #address(record: NetworkRecord, subnet: SubnetRecord, asked: Ip | undefined): Promise<Ip> {
    const request = { pool: `p-sim ${subnet.subnet}`, ip: asked, purpose: "endpoint" } as const;
    const { ip } = await this.#agent.networks.ipam.requestAddress(request, NEVER);
    // Peers and caches may still mean its last holder.
    if (asked === undefined) {
      if (ip === this.#last.get(subnet.subnet) && this.#hasAnother(record.id, subnet))
        this.#world.monitor.violation(`h${this.#agent.host.k} gives ${ip} again at once`);
      this.#last.set(subnet.subnet, ip);
    }
    return ip;
  }

  #hasAnother(network: NetworkId, subnet: SubnetRecord): boolean {
    const { node, disk, networks, tables } = this.#agent;
    const blocks = (tables.state?.blocks ?? []).filter((block) => block.network === network);
    const usable = new ReturnedBlocks(disk).usable(node, blocks);
    return nextAddress(node, subnet, usable, networks.leases.of(network), undefined) !== undefined;
  }

  /** @throws CONFLICT: its address or its MAC is another's */
  async #create({ id: network, name }: NetworkRecord, ips: readonly Ip[]): Promise<void> {
    const { host, random, localNetworks } = this.#agent;
    const { monitor, faults, queue, trace } = this.#world;
    const id = EndpointId.parse(hex(random.bytes(8)));
    const alias = chance(random, 50) ? pick(random, ALIASES) : undefined;
    const names = [`c${id.slice(0, 6)}`, id.slice(0, 12), ...(alias === undefined ? [] : [alias])];
    const out = chance(random, 15) ? "starting" : undefined;
    const given = { ipv4: undefined, ipv6: undefined, ...familiesOf(ips), mac: this.#chosenMac() };
    this.#show(network);
    this.#joining.set(id, network);
    try {
      const call = { network: shownAs(network), endpoint: id, publishes: false };
      const { mac } = await this.#driver.create({ ...call, ...given, macGiven: false }, NEVER);
      trace(`h${host.k} runs ${ips.join()} of ${name}`);
      monitor.addressGiven(host, localNetworks.record(network), ips);
      await this.#join(call);
      // The agent died in the midst: Docker was told that it failed.
      if (!this.#agent.alive) return;
      const container: Container = { id, network, ips, mac, names, startedAtMs: queue.nowMs, out };
      faults.started++;
      host.containers.set(id, container);
      monitor.started(host, container);
      const on = { network: call.network, container: containerIdOf(id) };
      this.#tell({ kind: "network", action: "connect", ...on });
      this.#happened(container, "start");
      this.dirty();
    } finally {
      this.#joining.delete(id);
    }
  }

  /** A container begins when its network is in place. @throws what the kernel refuses: Docker deletes the endpoint then */
  async #join(call: Omit<Parameters<EndpointDriver["join"]>[0], "sandbox">): Promise<void> {
    const { network, endpoint } = call;
    try {
      await this.#driver.join({ ...call, sandbox: sandboxOf(endpoint) }, NEVER);
    } catch (error) {
      if (this.#agent.alive) await this.#driver.delete(network, endpoint);
      throw error;
    }
  }

  /** `--mac-address`: any, or that which a container had here with an address of before. */
  #chosenMac(): Mac | undefined {
    const { random } = this.#agent;
    const dice = random.below(100);
    const before = pick(random, [...this.#last.values()]);
    if (dice < 5 && before !== undefined) return ruleMac(before);
    const own = [0x06, ...random.bytes(5)].map((byte) => hex(Uint8Array.of(byte)));
    return dice < 15 ? Mac.parse(own.join(":")) : undefined;
  }

  async #returnEmpty(): Promise<void> {
    const { host, networks } = this.#agent;
    // The controller may be away: with the next round.
    await networks.ipam.returnEmpty(host.nowMs()).catch(() => {});
    this.#agent.later(RETURN_PERIOD_MS, () => void this.#returnEmpty());
  }

  #refuse(why: string): void {
    this.#world.faults.refused++;
    this.#world.trace(`h${this.#agent.host.k} starts nothing: ${why}`);
  }
}
