import { asFailure } from "../shared/errors.ts";
import type { ClusterState } from "../shared/cluster-state.ts";
import { type NodeId, PROOF_VNI_PLAIN } from "../shared/ids.ts";
import { type Cidr, type Ip, numberToIp, prefixLength, rangeOf } from "../shared/ip.ts";
import type { Log } from "../shared/ports.ts";
import { largestMtuBytes } from "../shared/mtu.ts";
import type { DesiredProof } from "./core/data-plane.ts";
import { DEFAULT_PRESENCE_OPTIONS, Presence } from "./core/presence.ts";
import type { DataPathProof, ProbeResult } from "./kernel/port.ts";

const RETRY_MS = 1000;
/** For a person who asks. */
const PATIENT_MS = 1000;

export interface ProofStatus extends ProbeResult {
  readonly node: NodeId;
  readonly name: string;
}

export interface ProvingModules {
  readonly self: NodeId;
  readonly proof: DataPathProof;
  readonly state: () => ClusterState | undefined;
  /** Hosts that share a network with this one. */
  readonly near: () => ReadonlySet<NodeId>;
  /** Other hosts are lost, or found again. */
  readonly changed: () => void;
  readonly log: Log;
}

/**
 * Asks every peer's kernel, through VXLAN at full MTU, whether it is there; always on. What it finds
 * is in `status`, and decides whose containers are in answers to names.
 */
export class Proving {
  readonly #modules: ProvingModules;
  readonly #presence = new Presence();
  readonly #results = new Map<NodeId, ProofStatus>();
  #timer: NodeJS.Timeout | undefined;
  #desired: DesiredProof | undefined;
  #written = "";
  #setting: Promise<void> = Promise.resolve();
  #started = false;
  #inRound = false;
  #stopped = false;

  constructor(modules: ProvingModules) {
    this.#modules = modules;
  }

  start(): void {
    this.#started = true;
    void this.#round();
  }

  /** Hosts whose kernels do not answer. */
  lost(): ReadonlySet<NodeId> {
    return this.#presence.lost();
  }

  /** A connection of the mesh ended: host or agent may be gone. */
  doubt(node: NodeId): void {
    this.#presence.doubt(node, performance.now());
    this.#schedule(this.#presence.nextMs());
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    // One under way would open sockets again after they were closed, and keep the process.
    await this.#setting.catch(() => {});
    await this.#modules.proof.close();
  }

  results(): ProofStatus[] {
    return [...this.#results.values()];
  }

  /** The state may have changed: a new host must be answered before we think of asking it. */
  async update(): Promise<DesiredProof | undefined> {
    const state = this.#stopped ? undefined : this.#modules.state();
    const desired = state === undefined ? undefined : desiredProof(state, this.#modules.self);
    const peers = desired?.peers.map(({ node }) => node) ?? [];
    this.#presence.set(peers, this.#modules.near(), performance.now());
    this.#schedule(this.#presence.nextMs());
    this.#desired = desired;
    const written = JSON.stringify(desired);
    if (desired === undefined || written === this.#written) return desired;
    this.#written = written;
    // One after another: an older one that ended later would take the newer one's peers away.
    this.#setting = this.#setting.catch(() => {}).then(() => this.#modules.proof.set(desired));
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
    const desired = await this.update();
    const peers = desired?.peers ?? [];
    return Promise.all(peers.map((peer) => this.#probe(peer, PATIENT_MS)));
  }

  async #probe(
    { node, address }: DesiredProof["peers"][number],
    timeoutMs: number,
  ): Promise<ProofStatus> {
    const { proof, state } = this.#modules;
    const probed = await proof.probe(address, timeoutMs);
    const name = state()?.nodes.find(({ id }) => id === node)?.name ?? node;
    const result = { ...probed, node, name };
    this.#results.set(node, result);
    const answered = result.roundTripMs !== undefined;
    if (this.#presence.heard(node, answered, performance.now())) this.#modules.changed();
    // Nobody answers: should it be our own device that is gone, it is made again.
    if (
      !answered &&
      [...this.#results.values()].every(({ roundTripMs }) => roundTripMs === undefined)
    )
      this.#written = "";
    this.#schedule(this.#presence.nextMs());
    return result;
  }

  /** Those whose turn it is. */
  async #round(): Promise<void> {
    this.#inRound = true;
    let failed = false;
    try {
      // Nothing was told since: what stands, stands.
      const desired = this.#written === "" ? await this.update() : this.#desired;
      const peers = new Map(desired?.peers.map((peer) => [peer.node, peer]));
      for (const node of this.#results.keys()) if (!peers.has(node)) this.#results.delete(node);
      for (const node of this.#presence.due(performance.now())) {
        const peer = peers.get(node);
        if (peer !== undefined)
          void this.#probe(peer, DEFAULT_PRESENCE_OPTIONS.timeoutMs).catch(() => {});
      }
    } catch (error) {
      failed = true;
      this.#results.clear();
      this.#modules.log.warn({ ...asFailure(error) }, "data path not proven");
    }
    this.#inRound = false;
    this.#schedule(failed ? performance.now() + RETRY_MS : this.#presence.nextMs());
  }

  /** The next round, which may be earlier than was thought. */
  #schedule(nextMs = performance.now() + RETRY_MS): void {
    if (this.#stopped || !this.#started || this.#inRound) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#round(), Math.max(1, nextMs - performance.now()));
  }
}

/**
 * The proof network of class `none`: each host's address is the subnet's base plus its index. A host
 * behind NAT cannot be on it: nobody asks it, and it asks nobody.
 */
export function desiredProof(state: ClusterState, self: NodeId): DesiredProof | undefined {
  const members = state.nodes.filter(
    ({ id, behindNat }) => !state.revoked.includes(id) && behindNat === undefined,
  );
  const own = members.find(({ id }) => id === self);
  if (own === undefined) return undefined;
  const { proofSubnet, ports } = state.settings;
  const underlay = Math.min(...members.map(({ underlayMtuBytes }) => underlayMtuBytes));
  return {
    vni: PROOF_VNI_PLAIN,
    udpPort: ports.vxlanPlain,
    localVtep: own.vtep,
    mtuBytes: largestMtuBytes(state.settings, underlay, "none"),
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
