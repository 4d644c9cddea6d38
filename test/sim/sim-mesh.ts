import type {
  Admission,
  Mesh,
  MeshHandlers,
  MeshPeer,
} from "../../agent/replication/gossip/port.ts";
import { CLUSTER_TOPIC, networkOf } from "../../agent/replication/request-kinds.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";
import { alterChange, alterObjects } from "./liar.ts";
import { asked, isUnderstood } from "./old-version.ts";
import type { SimAgent } from "./sim-agent.ts";
import type { World } from "./world.ts";

const DIAL_MS = 400;

/** An agent's connections, and its requests over them: the mesh's port on virtual time. */
export class SimMesh implements Mesh {
  /** By peer: the other end of the connection. */
  readonly connected = new Map<NodeId, SimAgent>();
  readonly #agent: SimAgent;
  readonly #world: World;
  readonly #topics = new Set<string>();
  /** What came of each topic: the same message comes from several, and is counted with each. */
  readonly arrived = new Map<string, { copies: number; bytes: number }>();
  #handlers: MeshHandlers | undefined;
  #admission: Pick<Admission, "revision"> & {
    nodes: ReadonlySet<NodeId>;
    revoked: ReadonlySet<NodeId>;
  } = {
    revision: 0,
    nodes: new Set(),
    revoked: new Set(),
  };
  #wanted: readonly NodeId[] = [];
  #dials = false;
  #seen = new Set<number>();
  #seenBefore = new Set<number>();

  constructor(agent: SimAgent, world: World) {
    this.#agent = agent;
    this.#world = world;
  }

  async start(handlers: MeshHandlers): Promise<void> {
    this.#handlers = handlers;
  }

  /** Connections with those that the state revokes are ended at once. */
  admit(admission: Admission): void {
    const { revision, nodes, revoked } = admission;
    this.#admission = { revision, nodes: new Set(nodes), revoked: new Set(revoked) };
    for (const peer of this.connected.values())
      if (this.#admission.revoked.has(peer.node)) this.#disconnect(peer);
  }

  wantPeers(peers: readonly MeshPeer[]): void {
    this.#wanted = peers.map(({ node }) => node);
    if (!this.#dials) this.#agent.later(1, () => this.#dial());
    this.#dials = true;
  }

  async join(topic: string): Promise<void> {
    this.#topics.add(topic);
  }

  async leave(topic: string): Promise<void> {
    this.#topics.delete(topic);
    if (this.#agent.alive) this.#agent.left(networkOf(topic));
  }

  async publish(topic: string, bytes: Uint8Array): Promise<void> {
    if (!this.#agent.diesNow()) this.#world.network.publish(this.#agent, topic, bytes);
  }

  /** Lost on the way it is silent: who asks has the same time limit as a mesh would have. */
  request(to: NodeId, question: Uint8Array): Promise<Uint8Array> {
    const { network } = this.#world;
    const agent = this.#agent;
    const bytes = agent.isOld ? asked(question) : question;
    const lies = ({ host }: SimAgent): boolean => host.lies && this.#world.faulty;
    return new Promise((resolve, reject) => {
      if (agent.diesNow()) return;
      const peer = this.connected.get(to);
      if (peer === undefined) {
        reject(new OverlayError({ code: "UNREACHABLE", message: `host ${to} is not connected` }));
        return;
      }
      const answered = (answer: Uint8Array): void =>
        network.send(peer.host, agent.host, () => {
          if (!agent.alive) return;
          const told = lies(peer) ? alterObjects(this.#world, agent.random, bytes, answer) : answer;
          agent.answers.heard(bytes, told);
          resolve(told);
        });
      network.send(agent.host, peer.host, () => {
        if (peer.alive && agent.alive && peer.mesh.connected.has(agent.node))
          void peer.mesh.#handlers?.request(agent.node, bytes).then(answered);
      });
    });
  }

  connections(): NodeId[] {
    return [...this.connected.keys()];
  }

  async counters(): Promise<Readonly<Record<string, number>>> {
    return {};
  }

  async otherVersions(): Promise<readonly []> {
    return [];
  }

  owesSinceMs(): undefined {
    return undefined;
  }

  async stop(): Promise<void> {}

  isSubscribed(topic: string): boolean {
    return this.#topics.has(topic);
  }

  hear(topic: string, from: NodeId, bytes: Uint8Array): void {
    const { isOld, host, random } = this.#agent;
    if (isOld && !isUnderstood(topic, bytes)) return;
    if (host.lies && this.#world.faulty && topic === CLUSTER_TOPIC)
      alterChange(this.#world, this.#agent, random, bytes);
    this.#handlers?.message(topic, from, bytes);
  }

  arrives(topic: string, { length }: Uint8Array): void {
    const { copies, bytes } = this.arrived.get(topic) ?? { copies: 0, bytes: 0 };
    this.arrived.set(topic, { copies: copies + 1, bytes: bytes + length });
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

  /** Of a connection's other end: may it be on the mesh? As agent/replication/gossip/admission-rules.ts. */
  #admits(peer: SimAgent): boolean {
    const { revision, nodes, revoked } = this.#admission;
    if (this.#handlers === undefined || revoked.has(peer.node)) return false;
    return peer.host.membership.revision > revision || nodes.has(peer.node);
  }

  /** Keeps connections with wanted peers, and notices those that ended. */
  #dial(): void {
    const { network } = this.#world;
    const agent = this.#agent;
    for (const peer of this.connected.values()) {
      const stands =
        peer.alive &&
        peer.mesh.connected.get(agent.node) === agent &&
        network.bothWays(agent.host, peer.host);
      if (!stands || !this.#admits(peer)) this.#disconnect(peer);
    }
    for (const id of this.#wanted) {
      const peer = this.#world.hostOf(id)?.agent;
      if (peer === undefined || peer === agent || this.connected.get(id) === peer) continue;
      if (!network.bothWays(agent.host, peer.host)) continue;
      if (!this.#admits(peer) || !peer.mesh.#admits(agent)) continue;
      this.#connect(peer);
      if (agent.alive && peer.alive) peer.mesh.#connect(agent);
    }
    agent.later(DIAL_MS / 2 + agent.random.below(DIAL_MS), () => this.#dial());
  }

  #connect(peer: SimAgent): void {
    this.connected.set(peer.node, peer);
    this.#handlers?.connected(peer.node);
  }

  #disconnect(peer: SimAgent): void {
    const { node } = this.#agent;
    if (this.connected.get(peer.node) === peer) this.connected.delete(peer.node);
    if (peer.mesh.connected.get(node) === this.#agent) peer.mesh.connected.delete(node);
    this.#handlers?.disconnected(peer.node);
  }
}
