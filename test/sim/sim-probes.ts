import type { Asked } from "../../agent/core/data-plane/kernel-state.ts";
import { DEFAULT_PRESENCE_OPTIONS } from "../../agent/core/liveness/failure-detector.ts";
import type { Found } from "../../agent/core/liveness/reach.ts";
import { hostsWith } from "../../agent/core/tables/hosts.ts";
import type { DataPathProof, ProbeResult } from "../../agent/kernel/port.ts";
import { FailureDetector } from "../../agent/membership/failure-detector.ts";
import { Reach } from "../../agent/membership/reach.ts";
import type { NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import { silentLog, type Timers } from "../../shared/ports.ts";
import type { SimAgent } from "./sim-agent.ts";
import type { World } from "./world.ts";

const MTU_BYTES = 1500;
const NOTHING: Found = { lost: new Set(), answering: new Set(), keyless: new Set() };

/** Who of the other hosts is there: the real failure detector in clear, over a network that loses and delays. */
export class SimProbes {
  readonly reach = new Reach();
  readonly #detector: FailureDetector<Asked>;

  constructor(agent: SimAgent, world: World, timers: Timers) {
    const { node, host } = agent;
    this.#detector = new FailureDetector<Asked>({
      encryption: "none",
      presence: DEFAULT_PRESENCE_OPTIONS,
      proof: new SimProof(agent, world),
      desired: () => this.#desired(agent, world),
      near: () => hostsWith(agent.tables.hosts, node),
      name: (other) => other,
      changed: () => {
        const none = { ...this.#detector.found(), keyless: NOTHING.keyless };
        this.reach.found({ none, wireguard: NOTHING, ipsec: NOTHING });
      },
      clock: host,
      timers,
      log: silentLog,
    });
  }

  start(): void {
    this.#detector.start();
  }

  /** State or host documents may have changed. */
  update(): void {
    void this.#detector.update();
  }

  doubt(node: NodeId): void {
    this.#detector.doubt(node);
  }

  #desired({ node, tables }: SimAgent, world: World): Asked | undefined {
    if (tables.state === undefined) return undefined;
    const { nodes, revoked } = tables.state;
    const peers = nodes.flatMap(({ id }) => {
      const address = world.hostOf(id)?.address;
      return id === node || revoked.includes(id) || address === undefined
        ? []
        : [{ node: id, address }];
    });
    return { mtuBytes: MTU_BYTES, peers };
  }
}

/** Hosts answer while they have power and the network lets question and answer through. */
class SimProof implements DataPathProof<Asked> {
  readonly #agent: SimAgent;
  readonly #world: World;

  constructor(agent: SimAgent, world: World) {
    this.#agent = agent;
    this.#world = world;
  }

  set(): Promise<void> {
    return Promise.resolve();
  }

  faults(): Promise<string[]> {
    return Promise.resolve([]);
  }

  onLoss(): void {}

  probe(address: Ip, timeoutMs: number, bytes = MTU_BYTES): Promise<ProbeResult> {
    // A host that was put in the place of an evicted one has its address.
    const to = this.#world.hostAt(address);
    return new Promise((resolve) => {
      if (to === undefined) return;
      this.#world.network.probe(this.#agent.host, to, timeoutMs, (answered) => {
        // Of one that has died nothing goes on.
        if (this.#agent.alive) resolve({ address, bytes, roundTripMs: answered ? 1 : undefined });
      });
    });
  }

  remove(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
