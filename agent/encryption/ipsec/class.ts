import { isDeepStrictEqual } from "node:util";
import type { Settings } from "../../../shared/cluster-state.ts";
import type { Failure } from "../../../shared/errors.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import type { Clock, Log, Random } from "../../../shared/ports.ts";
import { classPeers, type Paths } from "../../core/data-plane/desired-network.ts";
import { DEFAULT_KEY_EXCHANGE_OPTIONS, rekeyLimits } from "../../core/keys/ipsec-options.ts";
import { saysOn } from "../../core/tables/hosts.ts";
import type { Tables } from "../../core/tables/tables.ts";
import type { EncryptionClass } from "../class-port.ts";
import type { VtepHandover } from "../vtep-handover.ts";
import type { IpsecKernel, KeyChannel } from "./port.ts";
import { DEFAULT_IPSEC_TIMES, Ipsec } from "./ipsec.ts";
import { PassLoop } from "../../../shared/node/pass-loop.ts";

export interface IpsecClassModules {
  readonly self: NodeId;
  readonly tables: Tables;
  readonly stateIsFresh: () => boolean;
  /** Hosts that this one does not reach: nobody waits for their keys. */
  readonly lost: () => ReadonlySet<NodeId>;
  /** Whether peers may not have heard of this host's VTEP yet, and whether it has the one of before. */
  readonly handover: Pick<VtepHandover, "sendsFrom" | "isHere">;
  /** @throws UNSUPPORTED or NETLINK: a kernel without it. */
  readonly makeKernel: (local: Ip, udpPort: number) => IpsecKernel;
  readonly channel: KeyChannel;
  /** `isOpen` may say something else: resolves when the host's guards do as it says. */
  readonly opened: () => Promise<void>;
  /** VXLAN devices of this port are set down: no other lock can be had. */
  readonly classDown: (udpPort: number) => Promise<void>;
  readonly pathsChanged: () => void;
  readonly seenChanged: () => void;
  readonly clock: Pick<Clock, "nowMs">;
  readonly random: Random;
  readonly log: Log;
}

interface Standing {
  readonly local: Ip;
  readonly udpPort: number;
  readonly kernel: IpsecKernel;
  readonly ipsec: Ipsec;
  readonly sinceMs: number;
  /** Its keys are changed and its policies looked after; else both stand in the kernel as they are. */
  runs: boolean;
}

/** What is of the former VTEP stays so long after packets leave from the new one: devices are changed by then. */
const LEAVES_AFTER_MS = 5000;

/** IPsec's class on this host: policies, and a key a direction with each host that shares a network of it. */
export class IpsecClass implements EncryptionClass {
  readonly #modules: IpsecClassModules;
  readonly #loop: PassLoop;
  readonly #waiting = new Set<() => void>();
  /** What packets go by. */
  #standing: Standing | undefined;
  /** At the address that this host has now, until its keys are there: then packets go by it. */
  #next: Standing | undefined;
  #changedOverMs = -Infinity;
  /** Nothing is left of an agent before us, or of networks that ended. */
  #isClear = false;
  #refused = false;
  #paths: Paths | undefined;

  constructor(modules: IpsecClassModules) {
    this.#modules = modules;
    const { log, seenChanged } = modules;
    this.#loop = new PassLoop(
      () => this.#pass(),
      (failure) => {
        if (failure !== undefined) log.error({ ...failure }, "IPsec set-up failed; tried again");
        seenChanged();
      },
    );
  }

  dirty(): void {
    this.#loop.dirty();
  }

  check(): void {
    this.#loop.dirty();
    this.#running()?.ipsec.check();
  }

  /** The class's port is open to what is under ESP. From the start, where an agent before us had it so. */
  isOpen(): boolean {
    return this.#standing !== undefined || (!this.#refused && this.isHere());
  }

  /** This host is on a network of the class. */
  isHere(): boolean {
    const { tables, self } = this.#modules;
    const ofClass = tables.state?.networks.filter(({ encryption }) => encryption === "ipsec") ?? [];
    return ofClass.some(({ id }) => saysOn(tables.hosts, self, id));
  }

  /** Packets leave from the VTEP of before until the keys of the new one are there. */
  isChangingOver(): boolean {
    return this.#next !== undefined;
  }

  paths(): Paths | undefined {
    return this.#paths;
  }

  tried(): Promise<Failure | undefined> {
    return this.#loop.tried();
  }

  failure(): Failure | undefined {
    return this.#running()?.ipsec.guardFailure() ?? this.#loop.failure();
  }

  /** Keys are asked for when two hosts first share a network: a container's first packet waits for them here. */
  async settled(timeoutMs: number): Promise<void> {
    await this.#loop.tried();
    if (this.#allReady()) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, timeoutMs);
      this.#waiting.add(done);
    });
  }

  /** New keys with one host or all; where the class cannot be used there are none to change. */
  rotate(node?: NodeId): void {
    this.#running()?.ipsec.rotate(node);
  }

  status() {
    const { ipsec } = this.#running() ?? {};
    return ipsec && { peers: ipsec.status(), counters: ipsec.counters() };
  }

  /** What is not as it was written, and the next look puts back. */
  async faults(): Promise<string[]> {
    const { kernel } = this.#running() ?? {};
    if (kernel === undefined || (await kernel.verifyPolicies())) return [];
    return ["its policies are not what was written"];
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
    for (const each of [this.#next, this.#standing]) await this.#end(each);
  }

  #running(): Standing | undefined {
    return this.#next ?? this.#standing;
  }

  async #pass(): Promise<void> {
    const { tables, self, stateIsFresh } = this.#modules;
    const own = tables.state?.nodes.find(({ id }) => id === self);
    if (tables.state === undefined || own === undefined) return;
    if (!this.isHere()) {
      if (!this.#isClear && stateIsFresh()) await this.#takeDown();
      return;
    }
    const peers = classPeers(tables, self, "ipsec");
    const running = this.#running();
    if (running?.runs === true && running.local === own.vtep) {
      running.ipsec.limit(rekeyLimits(tables.state.settings.keySchedule));
      running.ipsec.want(peers);
    } else await this.#standAt(own.vtep, tables.state.settings, peers);
    this.#look();
  }

  /** Beside what packets go by still, where this host has that address too: keys first, then packets. */
  async #standAt(local: Ip, settings: Settings, peers: ReadonlyMap<NodeId, Ip>): Promise<void> {
    await this.#end(this.#next);
    await this.#end(this.#standing);
    this.#next = undefined;
    if (this.#standing !== undefined && !this.#modules.handover.isHere(this.#standing.local))
      this.#standing = undefined;
    await this.#stand(local, settings, peers);
  }

  /** What is in the kernel goes on. */
  async #end(standing: Standing | undefined): Promise<void> {
    if (standing?.runs !== true) return;
    standing.runs = false;
    await standing.ipsec.stop();
    await standing.kernel.close();
  }

  async #stand(
    local: Ip,
    { ports, keySchedule }: Settings,
    peers: ReadonlyMap<NodeId, Ip>,
  ): Promise<void> {
    const { makeKernel, channel, opened, clock, random, log } = this.#modules;
    const udpPort = ports.vxlanIpsec;
    let kernel: IpsecKernel | undefined;
    try {
      kernel = makeKernel(local, udpPort);
      const keys = { ...DEFAULT_KEY_EXCHANGE_OPTIONS, ...rekeyLimits(keySchedule) };
      const isUsed = (): boolean => (this.#standing?.kernel ?? kernel) === kernel;
      const leaves = (): boolean =>
        isUsed() && clock.nowMs() >= this.#changedOverMs + LEAVES_AFTER_MS;
      const options = { local, keys, leaves, ...DEFAULT_IPSEC_TIMES };
      const ipsec = new Ipsec(options, { kernel, channel, clock, random, log });
      ipsec.onPath(() => this.#look());
      ipsec.onGuard((failure) => this.#guarded(failure));
      this.#isClear = false;
      await ipsec.start(peers);
      const made = { local, udpPort, kernel, ipsec, sinceMs: clock.nowMs(), runs: true };
      if (this.#standing === undefined) this.#standing = made;
      else this.#next = made;
      this.#refused = false;
      await opened();
    } catch (error) {
      if (this.#running()?.kernel !== kernel) await kernel?.close();
      if (this.#standing === undefined) {
        this.#refused = true;
        await opened();
      }
      throw error;
    }
  }

  #guarded(failure: Failure | undefined): void {
    const { classDown, seenChanged, log, tables } = this.#modules;
    seenChanged();
    const udpPort = tables.state?.settings.ports.vxlanIpsec;
    if (failure !== undefined && udpPort !== undefined)
      classDown(udpPort).catch((error: unknown) =>
        log.error(
          { err: error },
          "could not set the devices of IPsec networks down; firewall rules alone keep their packets from leaving in clear",
        ),
      );
    // Their devices are made again.
    this.#look("again");
  }

  /** Whether paths are others now, and whether who waits for them may go on. */
  #look(again?: "again"): void {
    const { tables, self, pathsChanged } = this.#modules;
    if (this.#next !== undefined && this.#mayChangeOver(this.#next)) {
      [this.#standing, this.#next] = [this.#next, undefined];
      this.#changedOverMs = this.#modules.clock.nowMs();
    }
    const before = this.#paths;
    this.#paths = this.#read(classPeers(tables, self, "ipsec"));
    if (again !== undefined || !isDeepStrictEqual(before, this.#paths)) pathsChanged();
    if (this.#allReady()) for (const done of this.#waiting) done();
  }

  #read(peers: ReadonlyMap<NodeId, Ip>): Paths | undefined {
    const { local, ipsec } = this.#standing ?? {};
    if (local === undefined || ipsec === undefined) return undefined;
    // Before what an agent before us left was read nobody seems to have a key.
    if (!ipsec.isAdopted() || ipsec.guardFailure() !== undefined) return undefined;
    const remote = new Map(
      [...peers.keys()].flatMap((node) => {
        const vtep = ipsec.vtepOf(node);
        return vtep === undefined ? [] : [[node, vtep]];
      }),
    );
    return { encryption: "ipsec", local, remote };
  }

  /** All peers that are there have keys with the new VTEP, and let it in; or who has none by now is waited for no more. */
  #mayChangeOver({ ipsec, sinceMs }: Standing): boolean {
    const { tables, self, lost, handover, clock } = this.#modules;
    if (this.#standing === undefined || !handover.isHere(this.#standing.local)) return true;
    if (handover.sendsFrom() !== undefined || !ipsec.isAdopted()) return false;
    if (clock.nowMs() >= sinceMs + DEFAULT_KEY_EXCHANGE_OPTIONS.adoptedMs) return true;
    const peers = [...classPeers(tables, self, "ipsec").keys()];
    return peers.every((node) => ipsec.ready(node) || lost().has(node));
  }

  #allReady(): boolean {
    const { tables, self, lost } = this.#modules;
    const ready = this.#paths?.remote;
    const peers = classPeers(tables, self, "ipsec").keys();
    return [...peers].every((node) => ready?.has(node) === true || lost().has(node));
  }

  async #takeDown(): Promise<void> {
    const { makeKernel, tables, self, opened } = this.#modules;
    const running = this.#running();
    [this.#next, this.#standing] = [undefined, undefined];
    this.#look();
    await running?.ipsec.stop();
    // The port is closed before its policies go.
    await opened();
    const own = tables.state?.nodes.find(({ id }) => id === self);
    const udpPort = tables.state?.settings.ports.vxlanIpsec;
    if (own === undefined || udpPort === undefined) return;
    // Without IPsec in the kernel there is nothing to remove.
    const kernel = running?.kernel ?? unless(() => makeKernel(own.vtep, udpPort));
    await kernel?.removeAll();
    await kernel?.close();
    this.#isClear = true;
  }
}

function unless<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch {
    return undefined;
  }
}
