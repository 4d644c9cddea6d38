import { asFailure } from "../shared/errors.ts";
import type { ClusterState } from "../shared/cluster-state.ts";
import { type NodeId, PROOF_VNI_PLAIN } from "../shared/ids.ts";
import { type Cidr, type Ip, numberToIp, prefixLength, rangeOf } from "../shared/ip.ts";
import type { Log } from "../shared/ports.ts";
import { largestMtuBytes } from "../shared/vxlan.ts";
import type { DesiredProof } from "./core/data-plane.ts";
import type { DataPathProof, ProbeResult } from "./kernel/port.ts";

const PERIOD_MS = 5000;
const TIMEOUT_MS = 1000;

export interface ProofStatus extends ProbeResult {
  readonly node: NodeId;
  readonly name: string;
}

/** Asks every peer's kernel, through VXLAN at full MTU, whether it is there; always on, for `status`. */
export class Proving {
  readonly #self: NodeId;
  readonly #proof: DataPathProof;
  readonly #state: () => ClusterState | undefined;
  readonly #log: Log;
  readonly #results = new Map<NodeId, ProofStatus>();
  #timer: NodeJS.Timeout | undefined;
  #written = "";
  #setting: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(self: NodeId, proof: DataPathProof, state: () => ClusterState | undefined, log: Log) {
    this.#self = self;
    this.#proof = proof;
    this.#state = state;
    this.#log = log;
  }

  start(): void {
    void this.#round();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    // One under way would open sockets again after they were closed, and keep the process.
    await this.#setting.catch(() => {});
    await this.#proof.close();
  }

  results(): ProofStatus[] {
    return [...this.#results.values()];
  }

  /** The state may have changed: a new host must be answered before we think of asking it. */
  async update(): Promise<DesiredProof | undefined> {
    const state = this.#stopped ? undefined : this.#state();
    const desired = state === undefined ? undefined : desiredProof(state, this.#self);
    const written = JSON.stringify(desired);
    if (desired === undefined || written === this.#written) return desired;
    this.#written = written;
    // One after another: an older one that ended later would take the newer one's peers away.
    this.#setting = this.#setting.catch(() => {}).then(() => this.#proof.set(desired));
    try {
      await this.#setting;
    } catch (error) {
      this.#written = "";
      throw error;
    }
    return desired;
  }

  /** Each peer once, now. */
  async probeAll(): Promise<ProofStatus[]> {
    const state = this.#state();
    const desired = await this.update();
    if (state === undefined || desired === undefined) return [];
    const results = await Promise.all(
      desired.peers.map(async ({ node, address }) => ({
        ...(await this.#proof.probe(address, TIMEOUT_MS)),
        node,
        name: state.nodes.find(({ id }) => id === node)?.name ?? node,
      })),
    );
    // Nobody answers: should it be our own device that is gone, it is made again.
    if (results.length > 0 && results.every(({ roundTripMs }) => roundTripMs === undefined))
      this.#written = "";
    this.#results.clear();
    for (const result of results) this.#results.set(result.node, result);
    return results;
  }

  async #round(): Promise<void> {
    try {
      await this.probeAll();
    } catch (error) {
      this.#results.clear();
      this.#log.warn({ ...asFailure(error) }, "data path not proven");
    }
    if (!this.#stopped) this.#timer = setTimeout(() => void this.#round(), PERIOD_MS);
  }
}

/** The proof network of class `none`: each host's address is the subnet's base plus its index. */
export function desiredProof(state: ClusterState, self: NodeId): DesiredProof | undefined {
  const own = state.nodes.find(({ id }) => id === self);
  if (own === undefined) return undefined;
  const { proofSubnet, ports } = state.settings;
  const members = state.nodes.filter(({ id }) => !state.revoked.includes(id));
  const underlay = Math.min(...members.map(({ underlayMtuBytes }) => underlayMtuBytes));
  return {
    vni: PROOF_VNI_PLAIN,
    udpPort: ports.vxlanPlain,
    localVtep: own.vtep,
    mtuBytes: largestMtuBytes(state.settings, underlay),
    ownAddress: proofAddress(proofSubnet, own.index),
    prefixLength: prefixLength(proofSubnet),
    peers: members
      .filter(({ id }) => id !== self)
      .map(({ id, index, vtep }) => ({
        node: id,
        address: proofAddress(proofSubnet, index),
        vtep,
      })),
  };
}

export function proofAddress(subnet: Cidr, index: number): Ip {
  const { first, family } = rangeOf(subnet);
  return numberToIp(first + BigInt(index), family);
}
