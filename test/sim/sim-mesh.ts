import type { NodeId } from "../../shared/ids.ts";
import type { SimAgent } from "./sim-agent.ts";
import type { World } from "./world.ts";

const DIAL_MS = 400;

/** What a question is about: all hosts, or one network. */
export type Kind = "cluster" | "network";

/** An agent's connections, and its requests over them: as agent/gossip/ and sync-requests.ts, on virtual time. */
export class SimMesh {
  /** By peer: the other end of the connection. */
  readonly connected = new Map<NodeId, SimAgent>();
  readonly #agent: SimAgent;
  readonly #world: World;
  #wanted: readonly NodeId[] = [];
  #seen = new Set<number>();
  #seenBefore = new Set<number>();

  constructor(agent: SimAgent, world: World) {
    this.#agent = agent;
    this.#world = world;
  }

  /** Whom `dial` keeps connections with; those that the state revokes are ended at once. */
  want(peers: readonly NodeId[], revoked: readonly NodeId[]): void {
    for (const peer of this.connected.values())
      if (revoked.includes(peer.node)) this.#disconnect(peer);
    this.#wanted = peers;
  }

  /** Of a connection's other end: may it be on the mesh? As agent/gossip/admission-rules.ts. */
  admits(peer: SimAgent): boolean {
    const { tables } = this.#agent;
    const { state } = tables;
    if (state === undefined || state.revoked.includes(peer.node)) return false;
    return peer.host.membership.revision > state.revision || tables.isMember(peer.node);
  }

  /** gossipsub's cache: what was handed to us before is not handed on again. */
  hasSeen(message: number): boolean {
    if (this.#seen.has(message) || this.#seenBefore.has(message)) return true;
    if (this.#seen.size >= 4096) {
      this.#seenBefore = this.#seen;
      this.#seen = new Set();
    }
    this.#seen.add(message);
    return false;
  }

  request(
    to: NodeId,
    kind: Kind,
    bytes: Uint8Array,
    then: { answered: (bytes: Uint8Array) => void; failed: () => void },
  ): void {
    const { network } = this.#world;
    const agent = this.#agent;
    const peer = this.connected.get(to);
    if (peer === undefined) {
      agent.later(1, then.failed);
      return;
    }
    network.send(agent.host, peer.host, () => {
      if (!peer.alive || !agent.alive || !peer.mesh.connected.has(agent.node)) return;
      const answer = peer.answer(agent.node, kind, bytes);
      network.send(peer.host, agent.host, () => {
        if (agent.alive) then.answered(answer);
      });
    });
  }

  /** Keeps connections with wanted peers, and notices those that ended. */
  dial(): void {
    const { network } = this.#world;
    const agent = this.#agent;
    for (const peer of this.connected.values()) {
      const stands =
        peer.alive &&
        peer.mesh.connected.get(agent.node) === agent &&
        network.bothWays(agent.host, peer.host);
      if (!stands || !this.admits(peer)) this.#disconnect(peer);
    }
    for (const id of this.#wanted) {
      const peer = this.#world.hostOf(id)?.agent;
      if (peer === undefined || peer === agent || this.connected.get(id) === peer) continue;
      if (!network.bothWays(agent.host, peer.host)) continue;
      if (!this.admits(peer) || !peer.mesh.admits(agent)) continue;
      this.#connect(peer);
      if (agent.alive && peer.alive) peer.mesh.#connect(agent);
    }
    if (agent.alive) agent.later(DIAL_MS / 2 + agent.random.below(DIAL_MS), () => this.dial());
  }

  #connect(peer: SimAgent): void {
    this.connected.set(peer.node, peer);
    this.#agent.peerConnected(peer.node);
  }

  #disconnect(peer: SimAgent): void {
    const { node, probes } = this.#agent;
    if (this.connected.get(peer.node) === peer) this.connected.delete(peer.node);
    if (peer.mesh.connected.get(node) === this.#agent) peer.mesh.connected.delete(node);
    probes.doubt(peer.node);
  }
}
