import { CLUSTER_TOPIC } from "../../agent/replication/request-kinds.ts";
import type { NetworkRecord } from "../../shared/cluster-state.ts";
import { encodeCbor } from "../../shared/codec.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NetworkId } from "../../shared/ids.ts";
import { cidrContains, type Ip, numberToIp, rangeOf } from "../../shared/ip.ts";
import type { Random } from "../../shared/ports.ts";
import { lie } from "./liar.ts";
import type { Request } from "./sim-controller.ts";
import type { DiskFault, SimHost } from "./sim-host.ts";
import type { Simulation } from "./simulation.ts";
import type { Container } from "./container.ts";
import { RETURN_AFTER_MS } from "./sim-agent.ts";
import { chance, pick, type World } from "./world.ts";

/** What users, operators and bad luck do, one thing at a time, in proportion to `weight`. */
interface Act {
  readonly weight: number;
  /** Happens to the cluster whole: not more often the more hosts there are. */
  readonly wide?: true;
  readonly run: (chaos: Chaos) => void;
}

const ACTS: readonly Act[] = [
  { weight: 300, run: (chaos) => chaos.startContainer() },
  { weight: 160, run: (chaos) => chaos.stopContainer() },
  { weight: 40, run: (chaos) => chaos.replaceContainer() },
  { weight: 50, run: (chaos) => chaos.changeHealth() },
  { weight: 90, run: (chaos) => chaos.startAtAddress() },
  { weight: 90, run: (chaos) => chaos.moveContainer() },
  { weight: 6, wide: true, run: (chaos) => chaos.downElsewhere() },
  { weight: 30, wide: true, run: (chaos) => chaos.part() },
  { weight: 20, wide: true, run: (chaos) => chaos.heal() },
  { weight: 40, run: (chaos) => chaos.crash() },
  { weight: 12, run: (chaos) => chaos.cutPower() },
  { weight: 25, run: (chaos) => chaos.takeSnapshot() },
  { weight: 5, run: (chaos) => chaos.clone() },
  { weight: 8, wide: true, run: (chaos) => chaos.jumpClock() },
  { weight: 10, wide: true, run: (chaos) => chaos.controllerAway() },
  { weight: 10, wide: true, run: (chaos) => chaos.backUp() },
  { weight: 6, wide: true, run: (chaos) => chaos.restoreController() },
  { weight: 5, wide: true, run: (chaos) => chaos.fork() },
  { weight: 5, run: (chaos) => chaos.evict() },
  { weight: 5, run: (chaos) => chaos.join() },
  { weight: 6, run: (chaos) => chaos.makeNetwork() },
  { weight: 8, wide: true, run: (chaos) => chaos.retireNetwork() },
  { weight: 10, run: (chaos) => chaos.loseNeighbours() },
  { weight: 40, wide: true, run: (chaos) => chaos.makeVip() },
  { weight: 25, wide: true, run: (chaos) => chaos.endVip() },
  { weight: 80, wide: true, run: (chaos) => chaos.lie() },
];
/** Up to so many hosts, all acts are as often as their weights say. */
const FEW_HOSTS = 8;
/** Where a cluster stands when it begins, no more happens than in one of so many: each change costs all hosts something. */
const BUSY_HOSTS = 100;
const LIES_AT_ONCE = 3;
const VIP_NAMES = ["web", "db", "cache", "nobody-else"];
const OUTS = ["unhealthy", "paused", "stopping"] as const;
const TOTAL = ACTS.reduce((sum, { weight }) => sum + weight, 0);

/** The faults of one run, drawn from its seed. */
export class Chaos {
  readonly #simulation: Simulation;
  readonly #world: World;
  readonly #random: Random;
  /** Nobody starts anything on them any more. */
  readonly #retiring = new Set<NetworkId>();

  constructor(simulation: Simulation, random: Random) {
    this.#simulation = simulation;
    this.#world = simulation;
    this.#random = random;
  }

  /** Acts until `endMs`, with a partition and a crash in any case. */
  run(endMs: number): void {
    const { queue, options } = this.#world;
    const busy = options.preloaded === true ? Math.min(options.nodes, BUSY_HOSTS) : options.nodes;
    const periodMs = Math.max(1, Math.round(360 / busy));
    const act = (): void => {
      if (queue.nowMs >= endMs) return;
      this.act();
      queue.after(1 + this.#random.below(2 * periodMs), act);
    };
    queue.after(1, act);
    for (let i = 0; i < 4; i++) queue.at(this.#random.below(endMs / 2), () => this.part());
    queue.at(this.#random.below(endMs), () => this.#crashSomeone());
  }

  act(): void {
    let at = this.#random.below(TOTAL);
    for (const { weight, wide, run } of ACTS) {
      at -= weight;
      if (at >= 0) continue;
      const { nodes } = this.#world.options;
      if (!wide || nodes <= FEW_HOSTS || this.#random.below(nodes) < FEW_HOSTS) run(this);
      return;
    }
  }

  startContainer(host = this.#host()): void {
    const network = host && this.#network(host);
    if (network !== undefined) host?.agent?.docker.run(network.id);
  }

  stopContainer(): void {
    const host = this.#host();
    const container = host && pick(this.#random, [...host.containers.values()]);
    if (container !== undefined && host !== undefined) this.#stop(host, container);
  }

  /** Compose: the old one goes, the new one comes, at once. */
  replaceContainer(): void {
    const host = this.#host();
    const container = host && pick(this.#random, [...host.containers.values()]);
    if (container === undefined) return;
    host?.agent?.docker.stop(container.id);
    host?.agent?.docker.run(container.network);
  }

  changeHealth(): void {
    const host = this.#host();
    const container = host && pick(this.#random, [...host.containers.values()]);
    if (container === undefined || host?.agent === undefined) return;
    const out = chance(this.#random, 50) ? undefined : pick(this.#random, OUTS);
    host.agent.docker.health(container.id, out);
  }

  startAtAddress(): void {
    const host = this.#host();
    const network = host && this.#network(host);
    // Of two families it would need two addresses.
    if (host === undefined || network?.subnets.length !== 1) return;
    host.agent?.docker.run(network.id, this.#lowAddress(network));
  }

  /** One that always has the same address goes, and comes on another host when that has given it back. */
  moveContainer(): void {
    const { faults, hosts, network, queue, trace } = this.#world;
    const fixed = hosts.flatMap((host) =>
      [...host.containers.values()].flatMap((container) =>
        isFixed(host, container) ? { host, container } : [],
      ),
    );
    const moved = pick(this.#random, fixed);
    if (moved?.host.agent === undefined) return;
    const { host, container } = moved;
    const others = hosts.filter((other) => other !== host);
    // Who is cut off meanwhile finds the same MAC elsewhere, and never saw it go.
    const away = pick(
      this.#random,
      others.filter((other) => other !== hosts[0] && hasOn(other, container.network)),
    );
    if (away !== undefined) faults.partitions++;
    const end = away === undefined ? () => {} : network.part(new Set([away]), false);
    const to = pick(
      this.#random,
      others.filter((other) => other !== away),
    );
    host.agent?.docker.stop(container.id);
    const [ip] = container.ips;
    const attempt = (left: number): void => {
      const runs = to && [...to.containers.values()].some(({ ips }) => ips.includes(ip!));
      if (runs === true || left === 0) {
        if (runs === true) faults.moved++;
        queue.after(200, end);
        return;
      }
      trace(`h${to?.k} should run what h${host.k} ran: ${ip}`);
      to?.agent?.docker.run(container.network, ip);
      queue.after(300, () => attempt(left - 1));
    };
    queue.after(RETURN_AFTER_MS + 600 + this.#random.below(1000), () => attempt(14));
  }

  /** While a host is cut off, nothing of one of its networks stays anywhere else: nobody could tell it. */
  downElsewhere(): void {
    const { faults, hosts, network, queue, trace } = this.#world;
    const host = this.#host();
    const container = host && pick(this.#random, [...host.containers.values()]);
    if (host === undefined || container === undefined) return;
    faults.partitions++;
    trace(`h${host.k} is cut off, all others end their containers on ${container.network}`);
    const end = network.part(new Set([host]), false);
    for (const other of hosts)
      if (other !== host)
        for (const held of other.containers.values())
          if (held.network === container.network) other.agent?.docker.stop(held.id);
    queue.after(3000 + this.#random.below(3000), end);
  }

  part(): void {
    const { faults, hosts, network, queue } = this.#world;
    const oneWay = this.#random.below(3) === 0;
    const inside = new Set(hosts.filter(() => this.#random.below(2) === 0));
    if (inside.size === 0 || inside.size === hosts.length) return;
    faults[oneWay ? "oneWayPartitions" : "partitions"]++;
    this.#world.trace(`partition of ${[...inside].map(({ k }) => k).join()} ${oneWay}`);
    const end = network.part(inside, oneWay);
    queue.after(200 + this.#random.below(6000), end);
  }

  heal(): void {
    this.#world.network.heal();
  }

  crash(host = this.#host()): void {
    if (host?.agent === undefined) return;
    const { controller, faults, queue } = this.#world;
    faults.crashes++;
    const witness = controller.isKnownOnlyTo(host);
    host.kill();
    const roll = this.#random.below(10);
    const fault: DiskFault = roll < 4 ? "old" : roll < 6 ? "empty" : "none";
    host.loseDisk(witness ? "none" : fault);
    queue.after(10 + this.#random.below(1500), () => host.start());
  }

  cutPower(): void {
    const host = this.#host();
    if (host === undefined || !host.powered) return;
    const { faults, queue, monitor } = this.#world;
    faults.powerCuts++;
    for (const container of host.containers.values()) monitor.stopped(container);
    host.powerOff();
    queue.after(300 + this.#random.below(5000), () => host.powerOn());
  }

  takeSnapshot(): void {
    const host = this.#host();
    if (host !== undefined) host.snapshot = host.disk.copy();
  }

  clone(): void {
    const host = this.#host();
    if (host !== undefined && !host.lies) this.#simulation.clone(host);
  }

  jumpClock(): void {
    this.#world.faults.clockJumps++;
    this.#world.controller.jump();
  }

  controllerAway(): void {
    const { controller, faults, queue } = this.#world;
    if (controller.isAway) return;
    faults.controllerAway++;
    controller.isAway = true;
    queue.after(500 + this.#random.below(4000), () => {
      controller.isAway = false;
      controller.tellAgain();
    });
  }

  backUp(): void {
    this.#world.controller.keepBackup();
  }

  restoreController(): void {
    const { controller, faults } = this.#world;
    if (!controller.isAway && controller.restore()) faults.controllerRestored++;
  }

  /** Some host hears the other one first, and hands it on. */
  fork(): void {
    const { controller, faults, network } = this.#world;
    const agent = this.#host()?.agent;
    const told = controller.isAway || agent === undefined ? undefined : controller.fork();
    if (told === undefined || agent === undefined) return;
    faults.forks++;
    network.publish(agent, CLUSTER_TOPIC, encodeCbor(told));
  }

  /** Never so many that the cluster shrinks for good: who was evicted joins again under another key. */
  evict(): void {
    const host = this.#host();
    if (host === undefined || host.k === 1 || host.lies) return;
    this.#simulation.evict(host);
  }

  join(): void {
    this.#simulation.joinNew();
  }

  makeNetwork(host = this.#host()): void {
    this.#simulation.makeNetwork(host);
  }

  /** Its containers are taken down on all hosts, then it is removed where it was made. */
  retireNetwork(): void {
    const { hosts, queue, trace } = this.#world;
    const host = this.#host();
    const made = host?.agent?.tables.state?.networks.filter(
      ({ createdBy }) => createdBy === host.node,
    );
    const network = pick(this.#random, made ?? [])?.id;
    if (host === undefined || network === undefined) return;
    trace(`h${host.k} is to remove ${network}`);
    this.#retiring.add(network);
    for (const other of hosts)
      for (const container of other.containers.values())
        if (container.network === network) this.#stop(other, container);
    const attempt = (left: number): void => {
      const known = host.agent?.localNetworks.find(network) !== undefined;
      if (known) this.#simulation.endNetwork(host, network);
      if (left > 0) queue.after(800, () => attempt(left - 1));
      else this.#retiring.delete(network);
    };
    queue.after(1000, () => attempt(5));
  }

  /** For a name that containers have, or for one that nobody has. */
  makeVip(): void {
    const host = this.#host();
    const network = host && this.#network(host);
    if (network === undefined) return;
    const name = pick(this.#random, VIP_NAMES)!;
    const sticky = chance(this.#random, 20);
    const asked = { v: 1, kind: "addVip", network: network.id, name, sticky } as const;
    void this.#asked(host, { ...asked, madeBy: "cli" }, "vipsMade");
  }

  endVip(): void {
    const host = this.#host();
    const vip = pick(this.#random, [...(host?.agent?.tables.state?.vips ?? [])]);
    if (vip === undefined) return;
    const { network, name } = vip;
    void this.#asked(host, { v: 1, kind: "removeVip", network, name }, "vipsEnded");
  }

  loseNeighbours(): void {
    const host = this.#host();
    const network = host && pick(this.#random, host.kernel.listNow());
    if (network === undefined) return;
    this.#world.faults.neighboursLost++;
    host?.kernel.loseNeighbours(network);
  }

  lie(): void {
    const liar = this.#world.hosts.find(({ lies }) => lies);
    // Each may kill its agent between two of the things that follow from it.
    for (let i = 0; i < LIES_AT_ONCE; i++)
      if (liar?.agent !== undefined) lie(this.#world, liar.agent, this.#random);
  }

  #stop(host: SimHost, container: Container): void {
    if (host.agent !== undefined) {
      host.agent.docker.stop(container.id);
      return;
    }
    // Docker does not wait for the plugin.
    host.containers.delete(container.id);
    this.#world.monitor.stopped(container);
  }

  async #asked(
    host: SimHost | undefined,
    request: Request,
    counted: "vipsMade" | "vipsEnded",
  ): Promise<void> {
    try {
      await host?.agent?.ask(request);
      this.#world.faults[counted]++;
    } catch (error) {
      if (!(error instanceof OverlayError)) throw error;
      this.#world.trace(`h${host?.k} is refused ${request.kind}: ${error.code}`);
    }
  }

  #crashSomeone(): void {
    const { hosts, queue } = this.#world;
    const running = pick(
      this.#random,
      hosts.filter(({ agent }) => agent !== undefined),
    );
    if (running === undefined) queue.after(100, () => this.#crashSomeone());
    else this.crash(running);
  }

  #host(): SimHost | undefined {
    return pick(this.#random, this.#world.hosts);
  }

  /** Each host is on a few of the networks, so that large clusters are not one large network. */
  #network(host: SimHost): NetworkRecord | undefined {
    const known = host.agent?.tables.state?.networks ?? [];
    const networks = known.filter(({ id }) => !this.#retiring.has(id));
    const { nodes } = this.#world.options;
    if (nodes <= 16) return pick(this.#random, networks);
    const own = [host.k, host.k * 7 + 3].map((at) => networks[at % Math.max(1, networks.length)]);
    return pick(this.#random, own);
  }

  /** In the quarter from which no block comes by itself. */
  #lowAddress({ subnets }: NetworkRecord): Ip {
    const { first, family } = rangeOf(subnets[0]!.subnet);
    return numberToIp(first + 10n + BigInt(this.#random.below(8)), family);
  }
}

function hasOn({ containers }: SimHost, network: NetworkId): boolean {
  return [...containers.values()].some((container) => container.network === network);
}

/** Outside of what is given by itself: it was asked for. */
function isFixed({ agent }: SimHost, { network, ips }: Container): boolean {
  const subnets = agent?.localNetworks.find(network)?.subnets ?? [];
  const ranges = subnets.flatMap(({ dynamicRanges }) => dynamicRanges);
  return subnets.length > 0 && ips.every((ip) => !ranges.some((range) => cidrContains(range, ip)));
}
