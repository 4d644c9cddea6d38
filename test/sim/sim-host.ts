import type { ContainerEvent } from "../../agent/docker/engine/port.ts";
import { FakeKernel } from "../fakes/fake-kernel.ts";
import { SavedTables } from "../../agent/replication/saved-tables.ts";
import type { SignedState } from "../../shared/cluster-state.ts";
import type { Version } from "../../shared/documents.ts";
import type { EndpointId, NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import type { Container } from "./container.ts";
import { SimAgent } from "./sim-agent.ts";
import { SharedDisk } from "./shared-bytes.ts";
import { SimDisk } from "./sim-disk.ts";
import type { World } from "./world.ts";

export interface Membership {
  readonly state: SignedState;
  /** In which the controller admitted the host. */
  readonly revision: number;
}

/** What of the disk is there when the agent starts again. */
export type DiskFault = "none" | "old" | "empty";

const CATCHING_UP_MS = 10_000;

/** A machine: power, disk, kernel, containers, and an agent that comes and goes. */
export class SimHost {
  readonly k: number;
  readonly node: NodeId;
  readonly name: string;
  readonly address: Ip;
  membership: Membership;
  readonly containers = new Map<EndpointId, Container>();
  /** Of its engine: signals and pauses. */
  remembered: ContainerEvent[] = [];
  /** For counting reordered messages. */
  readonly lastArrivals = new Map<SimHost, number>();
  /** The key of another machine. */
  readonly isClone: boolean;
  disk = new SimDisk();
  snapshot: SimDisk | undefined;
  kernel = new FakeKernel();
  agent: SimAgent | undefined;
  powered = true;
  /** When an old or an empty disk was put in last. */
  #diskReplacedMs = -Infinity;
  /** Says what is not so; see liar.ts. */
  lies = false;
  #stayOff = false;
  #boots = 0;
  #bootedAtMs = 0;
  #clock: { readonly originMs: number; readonly rate: number };
  readonly #world: World;

  constructor(
    world: World,
    of: Pick<SimHost, "k" | "node" | "name" | "address" | "membership">,
    isClone = false,
  ) {
    this.#world = world;
    this.k = of.k;
    this.node = of.node;
    this.name = of.name;
    this.address = of.address;
    this.membership = of.membership;
    this.isClone = isClone;
    this.#clock = this.#newClock();
    this.#boot();
  }

  /** random(4) in the real one: another one each time the machine starts. */
  get bootId(): string {
    return `${this.isClone ? "clone" : "boot"}-${this.k}-${this.#boots}`;
  }

  /** Monotonic, from an origin of its own, and a little too fast or too slow. */
  nowMs(): number {
    const { originMs, rate } = this.#clock;
    return originMs + (this.#world.queue.nowMs - this.#bootedAtMs) * rate;
  }

  /** When this host's clock will say `localMs`. */
  atMs(localMs: number): number {
    const { originMs, rate } = this.#clock;
    return Math.ceil(this.#bootedAtMs + (localMs - originMs) / rate);
  }

  start(): void {
    if (!this.powered || this.agent !== undefined) return;
    this.#world.trace(`h${this.k} ${this.node.slice(-4)} agent starts`);
    this.agent = new SimAgent(this, this.#world);
    void this.agent.start();
    const { controller } = this.#world;
    // It watches the controller beside it.
    if (controller.host === this) controller.tellAgain();
  }

  /** kill -9. */
  kill(): void {
    if (this.agent === undefined) return;
    this.#world.trace(`h${this.k} agent killed`);
    this.agent.alive = false;
    this.#world.ended(this.agent);
    this.agent = undefined;
  }

  loseDisk(fault: DiskFault): void {
    const { faults, trace } = this.#world;
    if (fault === "none") return;
    trace(`h${this.k} disk ${fault}`);
    if (fault === "old" && this.snapshot !== undefined) {
      faults.oldDisks++;
      this.disk = this.snapshot.copy();
      this.#diskReplacedMs = this.#world.queue.nowMs;
    } else if (fault === "empty") {
      faults.emptyDisks++;
      this.disk = new SimDisk();
      this.#diskReplacedMs = this.#world.queue.nowMs;
    }
  }

  /** Of itself, as its disk has it: its agent may not run. */
  lastWord(): Version | undefined {
    return new SavedTables(new SharedDisk(this.disk)).hosts().find(({ node }) => node === this.node)
      ?.version;
  }

  /** Its agent may not have met all that it said before the disk was replaced. */
  diskIsBehind(): boolean {
    return this.#world.queue.nowMs - this.#diskReplacedMs < CATCHING_UP_MS;
  }

  powerOff(): void {
    this.kill();
    this.#world.trace(`h${this.k} power off`);
    this.powered = false;
    this.containers.clear();
    this.remembered = [];
    this.kernel = new FakeKernel();
    this.#world.monitor.kernelGone(this);
  }

  /** For good. */
  switchOff(): void {
    this.powerOff();
    this.#stayOff = true;
  }

  powerOn(): void {
    if (this.powered || this.#stayOff) return;
    this.#world.trace(`h${this.k} power on`);
    this.powered = true;
    this.#boot();
    this.start();
  }

  /** Its containers go on and its agent does not know: the disk is another machine's copy. */
  clone(): SimHost {
    const clone = new SimHost(this.#world, this, true);
    clone.disk = this.disk.copy();
    return clone;
  }

  #boot(): void {
    this.#boots++;
    this.#bootedAtMs = this.#world.queue.nowMs;
    this.#clock = this.#newClock();
  }

  #newClock(): { originMs: number; rate: number } {
    const { random } = this.#world;
    return { originMs: random.below(1e9), rate: 0.97 + random.below(61) / 1000 };
  }
}
