import { isDeepStrictEqual } from "node:util";
import { nextAddress } from "../../agent/core/ipam.ts";
import { AttachEndpoint } from "../../agent/networks/attach-endpoint.ts";
import { OverlayIpam } from "../../agent/networks/ipam.ts";
import { NetworkRemoval } from "../../agent/networks/network-removal.ts";
import { ReturnedBlocks } from "../../agent/networks/returned-blocks.ts";
import type { NetworkRecord, SubnetRecord } from "../../shared/cluster-state.ts";
import { hex } from "../../shared/codec.ts";
import { claimedAddresses } from "../../shared/documents.ts";
import { OverlayError } from "../../shared/errors.ts";
import { EndpointId, type NetworkId } from "../../shared/ids.ts";
import type { Cidr, Ip } from "../../shared/ip.ts";
import { Mac, ruleMac } from "../../shared/mac.ts";
import { silentLog } from "../../shared/ports.ts";
import { type Container, endpointOf } from "./container.ts";
import type { SimAgent } from "./sim-agent.ts";
import type { Answer, Request } from "./sim-controller.ts";
import { chance, pick, type World } from "./world.ts";

const RETURN_PERIOD_MS = 400;
/** Five minutes to the real IPAM, which is told of a time that passes so many times as fast. */
export const RETURN_AFTER_MS = 1000;
const FASTER = 300;
const ALIASES = ["web", "db", "cache"];
const NEVER = new AbortController().signal;

/** Containers that Docker starts and stops on one host: it asks the real IPAM, and attaches as the real driver does. */
export class SimDocker {
  readonly #agent: SimAgent;
  readonly #world: World;
  readonly #ipam: OverlayIpam;
  readonly #attachEndpoint: AttachEndpoint;
  readonly #networkRemoval: NetworkRemoval;
  #beganAtOnce = false;
  /** Endpoints whose containers begin. */
  readonly #joining = new Set<EndpointId>();
  /** The address given last. */
  readonly #last = new Map<Cidr, Ip>();

  constructor(agent: SimAgent, world: World) {
    this.#agent = agent;
    this.#world = world;
    const { localNetworks, replication, disk, leases, random } = agent;
    this.#ipam = new OverlayIpam(agent.node, {
      replication,
      disk,
      leases,
      random,
      bindings: { networks: () => new Map() },
      localNetworks: {
        record: (network) => localNetworks.record(network),
        endpoints: (network) => localNetworks.endpoints(network),
        keyCame: () => {},
      },
      endpointRecovery: { adopted: (network) => agent.adopted(network) },
      controller: { request: (request) => this.ask(request as Request) as Promise<never> },
      log: silentLog,
    });
    this.#networkRemoval = new NetworkRemoval({
      self: agent.node,
      bindings: agent.bindings,
      localNetworks,
      replication,
      controller: { request: (request) => this.ask(request as Request) as Promise<never> },
      lost: () => agent.probes.lost(),
      clock: agent.host,
      log: silentLog,
    });
    this.#attachEndpoint = new AttachEndpoint({
      localNetworks,
      replication,
      encryption: { require: async () => {}, settled: async () => {} },
      reconciler: agent.reconciler,
      guardReconciler: { settled: async () => {} },
    });
  }

  start(): void {
    const { leases, localNetworks, host } = this.#agent;
    // Of containers that were about to start when the agent died: Docker gives them back after a while.
    for (const [network, ips] of leases.all()) {
      const used = localNetworks.endpoints(network).flatMap(claimedAddresses);
      for (const ip of [...ips].filter((each) => !used.includes(each))) leases.release(network, ip);
    }
    // A clone lives shorter than the five minutes after which the real one gives back.
    if (!host.isClone) void this.#returnEmpty();
  }

  /** A container of a network that this host knows; `ip`: as with `--ip`. */
  run(network: NetworkId, ip?: Ip): void {
    const record = this.#agent.localNetworks.find(network);
    if (record === undefined || this.#stateIsOld()) this.#refuse("no network");
    else void this.#run(record, ip);
  }

  /**
   * A restart policy does not wait: where the disk was lost, a container begins on a network that the kernel has
   * in the moment in which a state names it.
   */
  stateCame(): void {
    const { host, localNetworks, random } = this.#agent;
    if (this.#beganAtOnce || !host.diskIsBehind()) return;
    const known = host.kernel.listNow().filter((network) => localNetworks.find(network));
    const network = pick(random, known);
    if (network === undefined) return;
    this.#beganAtOnce = true;
    this.run(network);
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
    this.#forget(container.network, id, container.ips);
    this.#refer();
  }

  /** The engine has; whether it ends in the cluster is decided now, and asked again by who calls. */
  async removeNetwork(network: NetworkId): Promise<void> {
    const { bindings } = this.#agent;
    bindings.markRemoved(network);
    // The controller may be away.
    await this.#networkRemoval.decide(network).catch(() => {});
  }

  /** Docker told of another health, or of a pause. */
  health(id: EndpointId, out: string | undefined): void {
    const container = this.#agent.host.containers.get(id);
    if (container === undefined || container.out === out) return;
    this.#world.faults.healthChanged++;
    container.out = out;
    this.#agent.localNetworks.amend(container.network, [endpointOf(container)]);
  }

  /** Resolves when the agent has taken in the state that came with the answer. @throws UNREACHABLE, also when it was refused */
  async ask(request: Request): Promise<Answer> {
    if (this.#agent.diesNow()) return new Promise(() => {});
    const answer = await this.#world.controller.ask(this.#agent.host, request);
    await this.#agent.controllerTold(answer.state);
    if (request.kind === "returnBlock") this.#world.faults.blocksReturned++;
    if (request.kind === "removeNetwork") this.#world.faults.networksEnded++;
    return answer;
  }

  /** What runs here is what our documents say; networks that ended under their containers: somebody removes these. */
  sync(): void {
    const { host, localNetworks, tables } = this.#agent;
    const { networks } = this.#world.controller.decided;
    for (const { id, network } of host.containers.values())
      if (this.#agent.isGone(network) && !networks.some((record) => record.id === network))
        this.stop(id);
    for (const { id: network } of tables.state?.networks ?? []) {
      const running = [...host.containers.values()].filter((held) => held.network === network);
      const said = localNetworks.endpoints(network);
      for (const endpoint of running.map(endpointOf))
        if (!said.some((other) => isDeepStrictEqual(other, endpoint)))
          localNetworks.adopt(network, endpoint);
      if (running.length > 0 && !localNetworks.has(network)) void localNetworks.enterAgain(network);
      for (const endpoint of said)
        if (!host.lies && !host.containers.has(endpoint.id) && !this.#joining.has(endpoint.id))
          this.#forget(network, endpoint.id, claimedAddresses(endpoint));
    }
    this.#refer();
  }

  #refer(): void {
    const running = this.#agent.host.containers.values();
    this.#agent.localNetworks.refer(new Set([...running].map(({ network }) => network)));
  }

  #forget(network: NetworkId, id: EndpointId, ips: readonly Ip[]): void {
    this.#agent.localNetworks.remove(network, id);
    this.#ipam.giveBack(network, ips);
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
      this.#ipam.giveBack(record.id, ips);
      this.#refuse(error.code);
    }
  }

  async #address(record: NetworkRecord, subnet: SubnetRecord, asked: Ip | undefined): Promise<Ip> {
    const pool = `p-sim ${subnet.subnet}`;
    const { ip } = await this.#ipam.requestAddress({ pool, ip: asked, purpose: "endpoint" }, NEVER);
    // Peers and caches may still mean its last holder.
    if (asked === undefined) {
      if (ip === this.#last.get(subnet.subnet) && this.#hasAnother(record.id, subnet))
        this.#world.monitor.violation(`h${this.#agent.host.k} gives ${ip} again at once`);
      this.#last.set(subnet.subnet, ip);
    }
    return ip;
  }

  #hasAnother(network: NetworkId, subnet: SubnetRecord): boolean {
    const { node, disk, leases, tables } = this.#agent;
    const blocks = (tables.state?.blocks ?? []).filter((block) => block.network === network);
    const usable = new ReturnedBlocks(disk).usable(node, blocks);
    return nextAddress(node, subnet, usable, leases.of(network), undefined) !== undefined;
  }

  /** @throws CONFLICT: its address or its MAC is another's */
  async #create({ id: network, name }: NetworkRecord, ips: readonly Ip[]): Promise<void> {
    const { host, random, localNetworks } = this.#agent;
    const { monitor, faults, trace } = this.#world;
    const id = EndpointId.parse(hex(random.bytes(8)));
    const wanted = { id, ips, mac: this.#chosenMac() };
    const alias = pick(random, ALIASES);
    const names = [`c${id.slice(0, 6)}`, ...(chance(random, 50) && alias ? [alias] : [])];
    const out = chance(random, 15) ? "starting" : undefined;
    this.#attachEndpoint.propose(localNetworks.record(network), wanted);
    trace(`h${host.k} runs ${ips.join()} of ${name}`);
    monitor.addressGiven(host, localNetworks.record(network), ips);
    const { mac } = await this.#attachEndpoint.attach(() => network, wanted, NEVER);
    await this.#join(network, id);
    // The agent died in the midst: Docker was told that it failed.
    if (!this.#agent.alive) return;
    const container: Container = { id, network, ips, mac, names, out };
    faults.started++;
    host.containers.set(id, container);
    monitor.started(host, container);
    localNetworks.amend(network, [endpointOf(container)]);
  }

  /** A container begins when its network is in place. @throws what the kernel refuses: Docker deletes the endpoint then */
  async #join(network: NetworkId, id: EndpointId): Promise<void> {
    this.#joining.add(id);
    try {
      await this.#attachEndpoint.settle(network);
    } catch (error) {
      if (this.#agent.alive) this.#agent.localNetworks.remove(network, id);
      throw error;
    } finally {
      this.#joining.delete(id);
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
    // The controller may be away: with the next round.
    await this.#ipam.returnEmpty(this.#world.queue.nowMs * FASTER).catch(() => {});
    this.#agent.later(RETURN_PERIOD_MS, () => void this.#returnEmpty());
  }

  #refuse(why: string): void {
    this.#world.faults.refused++;
    this.#world.trace(`h${this.#agent.host.k} starts nothing: ${why}`);
  }
}
