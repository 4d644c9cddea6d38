import { DEFAULT_PRESENCE_OPTIONS, Presence } from "../../agent/core/liveness/failure-detector.ts";
import type { NodeId } from "../../shared/ids.ts";
import type { SimAgent } from "./sim-agent.ts";
import type { World } from "./world.ts";

/** Asks the other hosts' kernels when the real `Presence` wants it: as agent/membership/failure-detector.ts, on virtual time. */
export class SimProbes {
  readonly #presence = new Presence();
  readonly #agent: SimAgent;
  readonly #world: World;
  #nextAtMs = Infinity;

  constructor(agent: SimAgent, world: World) {
    this.#agent = agent;
    this.#world = world;
  }

  lost(): ReadonlySet<NodeId> {
    return this.#presence.lost();
  }

  /** As `Presence.set`. */
  set(peers: readonly NodeId[], near: ReadonlySet<NodeId>): void {
    this.#presence.set(peers, near, this.#agent.host.nowMs());
    this.#soon();
  }

  doubt(node: NodeId): void {
    this.#presence.doubt(node, this.#agent.host.nowMs());
    this.#soon();
  }

  /** The timer stands at what `Presence` wants next. */
  #soon(): void {
    const nextMs = this.#presence.nextMs();
    if (nextMs === undefined) return;
    const atMs = this.#agent.host.atMs(nextMs);
    if (atMs >= this.#nextAtMs) return;
    this.#nextAtMs = atMs;
    this.#agent.at(atMs, () => {
      if (this.#nextAtMs !== atMs) return;
      this.#nextAtMs = Infinity;
      this.#probe();
    });
  }

  #probe(): void {
    const { host } = this.#agent;
    for (const node of this.#presence.due(host.nowMs())) {
      const to = this.#world.hostOf(node);
      if (to === undefined) continue;
      this.#world.network.probe(host, to, DEFAULT_PRESENCE_OPTIONS.timeoutMs, (answered) => {
        if (!this.#agent.alive) return;
        if (this.#presence.heard(node, answered, host.nowMs())) this.#agent.presenceChanged();
        this.#soon();
      });
    }
    this.#soon();
  }
}
