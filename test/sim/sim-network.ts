import { hex } from "../../shared/codec.ts";
import type { NodeId } from "../../shared/ids.ts";
import type { Random } from "../../shared/ports.ts";
import { CLUSTER_TOPIC } from "../../agent/replication/request-kinds.ts";
import type { SimAgent } from "./sim-agent.ts";
import type { SimHost } from "./sim-host.ts";
import { oneShotSha256 } from "./stand-ins.ts";
import { chance, type World } from "./world.ts";

const LOST_PERCENT = 12;
const DELAYED_PERCENT = 10;
const LONGEST_DELAY_MS = 800;
const DUPLICATED_PERCENT = 8;
/** What a message is handed on to; its author gives it to all. gossipsub's D. */
const FORWARD_TO = 4;

interface Partition {
  readonly inside: ReadonlySet<SimHost>;
  /** Only what leaves the inside is cut off. */
  readonly oneWay: boolean;
}

export interface GossipMessage {
  readonly id: number;
  readonly topic: string;
  readonly bytes: Uint8Array;
}

/** What lies between the hosts: loses, delays, doubles and parts, and hands gossip on by flooding. */
export class SimNetwork {
  readonly #world: World;
  readonly #random: Random;
  readonly #partitions = new Set<Partition>();
  readonly #cuts: { readonly from: SimHost; readonly to: SimHost }[] = [];
  readonly #ids = new Map<string, number>();
  #lastMessage = 0;

  constructor(world: World, random: Random) {
    this.#world = world;
    this.#random = random;
  }

  part(inside: ReadonlySet<SimHost>, oneWay: boolean): () => void {
    const partition = { inside, oneWay };
    this.#partitions.add(partition);
    return () => this.#partitions.delete(partition);
  }

  /** One way, between two hosts, for good. */
  cut(from: SimHost, to: SimHost): void {
    this.#cuts.push({ from, to });
  }

  /** All partitions end. */
  heal(): void {
    this.#partitions.clear();
  }

  isOpen(from: SimHost, to: SimHost): boolean {
    for (const { inside, oneWay } of this.#partitions) {
      const [out, into] = [inside.has(from), inside.has(to)];
      if (out !== into && (out || !oneWay)) return false;
    }
    return !this.#cuts.some((cut) => cut.from === from && cut.to === to);
  }

  bothWays(a: SimHost, b: SimHost): boolean {
    return this.isOpen(a, b) && this.isOpen(b, a);
  }

  /** `arrive` happens later, more than once, or never. */
  send(from: SimHost, to: SimHost, arrive: () => void, once = false): void {
    const { faults, queue, faulty } = this.#world;
    if (!this.isOpen(from, to)) {
      faults.cutOff++;
      return;
    }
    if (faulty && chance(this.#random, LOST_PERCENT)) {
      faults.lost++;
      return;
    }
    let delayMs = 1 + this.#random.below(5);
    if (faulty && chance(this.#random, DELAYED_PERCENT)) {
      faults.delayed++;
      delayMs += this.#random.below(LONGEST_DELAY_MS);
    }
    const atMs = queue.nowMs + delayMs;
    if (atMs < (from.lastArrivals.get(to) ?? 0)) faults.reordered++;
    else from.lastArrivals.set(to, atMs);
    queue.at(atMs, arrive);
    if (faulty && !once && chance(this.#random, DUPLICATED_PERCENT)) {
      faults.duplicated++;
      queue.at(atMs + this.#random.below(300), arrive);
    }
  }

  /** An echo through the data plane: answered by the kernel, so by any machine that is on. */
  probe(from: SimHost, to: SimHost, timeoutMs: number, heard: (answered: boolean) => void): void {
    const { queue, faulty } = this.#world;
    const lost = faulty && chance(this.#random, 2);
    const answered = !lost && to.powered && this.bothWays(from, to);
    queue.after(answered ? 2 : timeoutMs, () => heard(answered));
  }

  publish(author: SimAgent, topic: string, bytes: Uint8Array): void {
    const message = { id: this.#idOf(topic, bytes), topic, bytes };
    if (author.mesh.hasSeen(message.id)) return;
    for (const peer of author.mesh.connected.values()) this.#hand(author, peer, message);
  }

  /**
   * By its bytes, as agent/replication/gossip/mesh-node.ts has it: a state that all hosts hand on is one message. What is
   * sealed for a network has a nonce, and is another each time.
   */
  #idOf(topic: string, bytes: Uint8Array): number {
    if (topic !== CLUSTER_TOPIC) return ++this.#lastMessage;
    const hash = hex(oneShotSha256.sha256(bytes));
    let id = this.#ids.get(hash);
    if (id === undefined) this.#ids.set(hash, (id = ++this.#lastMessage));
    return id;
  }

  #hand(from: SimAgent, to: SimAgent, message: GossipMessage): void {
    if (!to.mesh.isSubscribed(message.topic)) return;
    this.send(from.host, to.host, () => this.#arrive(from.node, to, message));
  }

  #arrive(from: NodeId, to: SimAgent, message: GossipMessage): void {
    // The connection must stand: a host that was cut off hands nothing on.
    if (!to.alive || !to.mesh.connected.has(from) || !to.mesh.isSubscribed(message.topic)) return;
    to.mesh.arrives(message.topic, message.bytes);
    if (to.mesh.hasSeen(message.id)) return;
    const peers = [...to.mesh.connected.values()].filter(
      (peer) => peer.node !== from && peer.mesh.isSubscribed(message.topic),
    );
    const first = peers.length <= FORWARD_TO ? 0 : this.#random.below(peers.length);
    for (let i = 0; i < Math.min(FORWARD_TO, peers.length); i++)
      this.#hand(to, peers[(first + i) % peers.length]!, message);
    to.mesh.hear(message.topic, from, message.bytes);
  }
}
