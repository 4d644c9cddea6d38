import { Disk } from "../../agent/store/disk.ts";
import { plainPaths } from "../../agent/core/desired.ts";
import { ClusterSyncRequest } from "../../agent/core/cluster-messages.ts";
import { type ClusterOutput, ClusterReplica } from "../../agent/core/cluster-replica.ts";
import { hostsWith } from "../../agent/core/hosts.ts";
import { decodeMessage } from "../../agent/core/messages.ts";
import { wantedPeers } from "../../agent/core/peers.ts";
import { plan } from "../../agent/core/plan.ts";
import { DEFAULT_REPLICA_OPTIONS, type Output, Replica } from "../../agent/core/replica.ts";
import type { Tables } from "../../agent/core/tables.ts";
import { wantedNetwork } from "../../agent/core/wanted.ts";
import { SavedTables } from "../../agent/saved-tables.ts";
import { BOUNDS } from "../../shared/bounds.ts";
import type { NetworkRecord, SignedState } from "../../shared/cluster-state.ts";
import { encodeCbor } from "../../shared/codec.ts";
import type { Endpoint, Signed } from "../../shared/documents.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { EndpointId, NetworkId, NodeId } from "../../shared/ids.ts";
import type { Random } from "../../shared/ports.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { SimDocker } from "./sim-docker.ts";
import { Answers } from "./answers.ts";
import { endpointOf } from "./container.ts";
import type { SimHost } from "./sim-host.ts";
import { type Kind, SimMesh } from "./sim-mesh.ts";
import { SimNames } from "./sim-names.ts";
import { SimProbes } from "./sim-probes.ts";
import { oneShotSha256 } from "./stand-ins.ts";
import { chance, type World } from "./world.ts";

export const CLUSTER_TOPIC = "cluster";
const LINGER_MS = 1500;
const KERNEL_RETRY_MS = 150;
const VERIFY_MS = 1;
/** A minute in the real one. */
const RESYNC_MS = 6000;

/**
 * One life of an agent: the real core, and around it what agent.ts, replication.ts, hosting.ts,
 * resolving.ts and proving.ts do with timers, disk and mesh, on virtual time.
 */
export class SimAgent {
  readonly host: SimHost;
  readonly node: NodeId;
  readonly networks: Replica;
  readonly cluster: ClusterReplica;
  readonly names = new SimNames();
  readonly answers = new Answers();
  readonly docker: SimDocker;
  readonly random: Random;
  /** As said in the host document; on their topics. */
  readonly hosted = new Set<NetworkId>();
  readonly mesh: SimMesh;
  readonly probes: SimProbes;
  alive = true;
  readonly #world: World;
  readonly #saved: SavedTables;
  readonly #leaving = new Map<NetworkId, number>();
  readonly #dirty = new Set<NetworkId>();
  readonly #kept = new Map<string, Signed>();
  readonly #heldSinceMs = new Map<string, number>();
  #signed: SignedState;
  /** In the kernel at the start, and in no document of ours. */
  #unadopted: NetworkId[] = [];
  #networksOnDisk: string | undefined;
  #changed = false;
  #started = false;
  #wakeAtMs = Infinity;

  constructor(host: SimHost, world: World) {
    const { node } = host;
    this.host = host;
    this.node = node;
    this.#world = world;
    this.random = seededRandom(world.random.below(0x1_0000_0000));
    this.#saved = new SavedTables(new Disk(host.disk));
    this.#signed = host.membership.state;
    const options = { ...DEFAULT_REPLICA_OPTIONS, node };
    const modules = {
      hasher: oneShotSha256,
      signer: world.keys.signer(node),
      verifier: world.keys.verifier,
      random: this.random,
    };
    this.networks = new Replica(options, {
      ...modules,
      peers: (network) => {
        const { hosts } = this.tables;
        return [...this.mesh.connected.keys()].filter(
          (id) => hosts.get(id)?.hosting.includes(network) === true,
        );
      },
    });
    this.cluster = new ClusterReplica(this.tables, options, {
      ...modules,
      peers: () => [...this.mesh.connected.keys()],
    });
    this.docker = new SimDocker(this, world);
    this.mesh = new SimMesh(this, world);
    this.probes = new SimProbes(this, world);
  }

  get tables(): Tables {
    return this.networks.tables;
  }

  /** The newest state it has taken in, as it was signed. */
  signed(): SignedState {
    return this.#signed;
  }

  start(): void {
    const saved = this.#saved;
    if (saved.state() === undefined) saved.saveState(this.#signed);
    this.#signed = saved.state() ?? this.#signed;
    const bootIdBefore = saved.hosts().find(({ node }) => node === this.node)?.bootId;
    this.cluster.restore(saved.hosts(), this.#signed, this.#world.trust.verify(this.#signed));
    const documents = saved.documents();
    for (const document of documents)
      this.#kept.set(`${document.network}/${document.node}`, document);
    this.networks.restore(documents);
    for (const document of saved.hosts()) this.#kept.set(document.node, document);
    if (bootIdBefore !== this.host.bootId) this.#forgetLastBoot();
    this.#unadopted = this.host.kernel
      .listNow()
      .filter((network) => this.endpoints(network).length === 0);
    this.#adopt();
    const busy = this.#records().filter(({ id }) => this.endpoints(id).length > 0);
    for (const id of [...busy.map((record) => record.id), ...this.#unadopted]) this.hosted.add(id);
    this.#started = true;
    this.#say();
    for (const { id } of busy) this.run(this.networks.join(id, this.#now()));
    for (const network of this.host.kernel.listNow()) this.dirty(network);
    this.#applyState();
    this.mesh.dial();
    this.docker.start();
    this.later(RESYNC_MS, () => this.#giveUpUnknown());
    this.#wake();
  }

  endpoints(network: NetworkId): readonly Endpoint[] {
    return this.tables.documents(network).get(this.node)?.endpoints ?? [];
  }

  record(network: NetworkId): NetworkRecord | undefined {
    return this.#records().find(({ id }) => id === network);
  }

  /** The cluster's newest word was heard: what it does not name is not there (any more). */
  isGone(network: NetworkId): boolean {
    return this.cluster.stateIsFresh() && this.record(network) === undefined;
  }

  /** Virtual: when its document was last taken in; long ago: at the start. */
  heldSinceMs(network: NetworkId, node: NodeId): number {
    return this.#heldSinceMs.get(`${network}/${node}`) ?? 0;
  }

  heardSinceMs(node: NodeId): number {
    return this.#heldSinceMs.get(node) ?? 0;
  }

  isSubscribed(topic: string): boolean {
    return topic === CLUSTER_TOPIC || this.hosted.has(topic as NetworkId);
  }

  hear(topic: string, from: NodeId, bytes: Uint8Array): void {
    if (topic === CLUSTER_TOPIC) this.runCluster(this.cluster.gossip(from, bytes, this.#now()));
    else this.run(this.networks.gossip(topic as NetworkId, from, bytes, this.#now()));
  }

  /** @throws INVALID for what is no request. */
  answer(from: NodeId, kind: Kind, bytes: Uint8Array): Uint8Array {
    if (kind === "network") {
      const answer = this.networks.answer(from, bytes);
      // The question may have shown that the peer holds something else.
      this.#wake();
      return answer;
    }
    const request = decodeMessage(ClusterSyncRequest, bytes, BOUNDS.syncMessageBytes);
    return encodeCbor(this.cluster.answer(request));
  }

  /** `teller`: the controller itself, or a peer whose word the core wants checked. */
  stateCame(signed: SignedState, teller: "controller" | "peer"): void {
    if (!this.alive) return;
    let state;
    try {
      state = this.#world.trust.verify(signed);
    } catch (error) {
      if (error instanceof OverlayError) return;
      throw error;
    }
    const held = this.tables.state?.revision ?? 0;
    const { cluster } = this;
    const outputs =
      teller === "controller"
        ? cluster.controllerTold(signed, state, this.#now())
        : cluster.stateVerified(signed, state, this.#now());
    if (state.revision > held) {
      this.#world.monitor.revisionWentOn(this, held, state.revision);
      this.#signed = signed;
      this.#world.trace(`h${this.host.k} at revision ${state.revision}`);
    }
    this.runCluster(outputs);
  }

  /** Both ends ask what they missed. */
  peerConnected(peer: NodeId): void {
    this.runCluster(this.cluster.connected(peer, this.#now()));
  }

  /** Names, and where frames go, follow from who is lost. */
  presenceChanged(): void {
    for (const network of this.hosted) this.dirty(network);
  }

  /** What an agent had set does not happen once it has died. */
  later(ms: number, run: () => void): void {
    this.at(this.#world.queue.nowMs + ms, run);
  }

  at(atMs: number, run: () => void): void {
    this.#world.queue.at(atMs, () => {
      if (this.alive) run();
    });
  }

  dirty(network: NetworkId): void {
    if (this.#dirty.size === 0) this.later(this.#world.options.coalesceMs, () => this.#passes());
    this.#dirty.add(network);
  }

  /** As hosting.ts: on the topic and known as a host of it, until a while after the last endpoint. */
  enter(network: NetworkId): void {
    this.#leaving.delete(network);
    if (this.hosted.has(network)) return;
    this.hosted.add(network);
    this.run(this.networks.join(network, this.#now()));
    this.#say();
  }

  change(network: NetworkId, put: readonly Endpoint[], remove: readonly EndpointId[]): void {
    this.run(this.networks.change(network, put, remove));
    if (this.alive && this.endpoints(network).length === 0) this.#linger(network);
  }

  /** As agent/hosting.ts: what is not there is gone already; a network that no state names has no view. */
  remove(network: NetworkId, id: EndpointId): void {
    if (this.endpoints(network).some((said) => said.id === id)) this.change(network, [], [id]);
    else if (this.record(network) !== undefined && this.endpoints(network).length === 0)
      this.#linger(network);
  }

  /** Of what is said already. */
  amend(network: NetworkId, endpoint: Endpoint): void {
    if (this.endpoints(network).some(({ id }) => id === endpoint.id))
      this.change(network, [endpoint], []);
  }

  run(outputs: readonly Output[]): void {
    for (const output of outputs) {
      if (this.#diesBetween()) return;
      switch (output.kind) {
        case "persist": {
          const { document } = output;
          const { network, node, version } = document;
          const key = `${network}/${node}`;
          const { monitor } = this.#world;
          monitor.versionWentOn(this, `the document of ${node}`, this.#kept.get(key), document);
          monitor.documentKept(this, document);
          this.#kept.set(key, document);
          this.#heldSinceMs.set(key, this.#world.queue.nowMs);
          this.#saved.saveDocument(document);
          this.#world.trace(
            `h${this.host.k} holds ${network.slice(0, 6)}/${node.slice(-4)} ${version.incarnation}.${version.seq} of ${document.endpoints.length}`,
          );
          break;
        }
        case "forget":
          this.#saved.forgetDocuments(output.network, this.node);
          for (const key of this.#kept.keys())
            if (key.startsWith(output.network) && !key.endsWith(this.node)) this.#kept.delete(key);
          break;
        case "publish":
          this.#world.network.publish(this, output.network, output.bytes);
          break;
        case "request":
          this.mesh.request(output.to, "network", output.bytes, {
            answered: (bytes) => {
              this.answers.network(output.bytes, bytes);
              this.run(this.networks.answered(output.id, bytes, this.#now()));
            },
            failed: () => this.networks.requestFailed(output.id),
          });
          break;
        case "dirty":
          this.dirty(output.network);
      }
    }
    this.#wake();
  }

  runCluster(outputs: readonly ClusterOutput[]): void {
    for (const output of outputs) {
      if (this.#diesBetween()) return;
      switch (output.kind) {
        case "persistHost": {
          const { document } = output;
          const { node, version } = document;
          const { monitor } = this.#world;
          monitor.versionWentOn(this, `the word of ${node}`, this.#kept.get(node), document);
          this.#kept.set(node, document);
          this.#heldSinceMs.set(node, this.#world.queue.nowMs);
          this.#saved.saveHost(document);
          this.#world.trace(
            `h${this.host.k} hears ${node.slice(-4)} ${version.incarnation}.${version.seq} is on ${document.hosting.map((id) => id.slice(0, 6)).join()}`,
          );
          break;
        }
        case "persistState":
          this.#saved.saveState(output.signed);
          break;
        case "publish":
          this.#world.network.publish(this, CLUSTER_TOPIC, output.bytes);
          break;
        case "request":
          this.mesh.request(output.to, "cluster", output.bytes, {
            answered: (bytes) => {
              this.answers.cluster();
              this.runCluster(this.cluster.answered(output.id, bytes, this.#now()));
            },
            failed: () => this.cluster.requestFailed(output.id),
          });
          break;
        case "verifyState":
          this.later(VERIFY_MS, () => this.stateCame(output.signed, "peer"));
          break;
        case "changed":
          this.#changedSoon();
      }
    }
    this.#wake();
  }

  /** Others' tables say so, or a probe. */
  #changedSoon(): void {
    if (this.#changed) return;
    this.#changed = true;
    this.later(this.#world.options.coalesceMs, () => {
      this.#changed = false;
      this.#applyState();
    });
  }

  #applyState(): void {
    const { state, hosts } = this.tables;
    if (state === undefined) return;
    const networks = state.networks.map(({ id }) => id).join();
    if (networks !== this.#networksOnDisk) this.#saved.forgetOthers(state);
    this.#networksOnDisk = networks;
    const hosting = hosts.get(this.node)?.hosting ?? [];
    this.mesh.want(wantedPeers(this.node, state, hosts, hosting, oneShotSha256), state.revoked);
    const members = state.nodes.map(({ id }) => id);
    const others = members.filter((id) => id !== this.node && !state.revoked.includes(id));
    this.probes.set(others, hostsWith(hosts, this.node));
    this.#adopt();
    this.docker.stateChanged();
    for (const network of [...this.hosted, ...this.host.kernel.listNow()]) this.dirty(network);
  }

  /** What runs here, by Docker, is what our documents say. */
  #adopt(): void {
    for (const { id: network } of this.#records()) {
      const running = [...this.host.containers.values()].filter((held) => held.network === network);
      const said = this.endpoints(network);
      const put = running.map(endpointOf).filter((endpoint) => !said.some(isSame(endpoint)));
      const ids = new Set(running.map(({ id }) => id));
      const remove = said.map(({ id }) => id).filter((id) => !ids.has(id));
      if (put.length + (this.host.lies ? 0 : remove.length) > 0)
        this.change(network, put, this.host.lies ? [] : remove);
      if (!this.alive) return;
      if (this.#unadopted.includes(network)) {
        this.#unadopted = this.#unadopted.filter((other) => other !== network);
        this.run(this.networks.join(network, this.#now()));
        if (running.length === 0) this.#linger(network);
        this.dirty(network);
      }
      if (running.length > 0 && !this.hosted.has(network) && this.#started) this.enter(network);
    }
  }

  /** As adoption.ts: in the kernel, and after all this time in no state. */
  #giveUpUnknown(): void {
    if (this.cluster.stateIsFresh())
      for (const network of this.#unadopted)
        if (this.record(network) === undefined) {
          this.#leave(network);
          this.dirty(network);
        }
    this.later(RESYNC_MS, () => this.#giveUpUnknown());
  }

  #forgetLastBoot(): void {
    for (const { id: network } of this.#records()) {
      const gone = this.endpoints(network).map(({ id }) => id);
      if (gone.length > 0) this.run(this.networks.change(network, [], gone));
    }
  }

  #passes(): void {
    const networks = [...this.#dirty];
    this.#dirty.clear();
    for (const network of networks) {
      this.#pass(network);
      if (!this.alive) return;
    }
  }

  #pass(network: NetworkId): void {
    const { kernel } = this.host;
    const { monitor, faults, faulty } = this.#world;
    const record = this.record(network);
    const here = this.hosted.has(network) || this.endpoints(network).length > 0;
    if (record !== undefined && here) this.names.update(this.tables, record, this.probes.lost());
    else this.names.forget(network);
    if (this.#unadopted.includes(network)) return;
    const paths = plainPaths(this.tables, this.node);
    const { desired, inSync } = wantedNetwork(this.tables, this.node, network, () => paths, {
      stateIsFresh: this.cluster.stateIsFresh(),
      hostsInSync: this.cluster.inSync(),
      inSync: this.networks.inSync(network),
    });
    if (desired !== undefined && inSync)
      monitor.mustHaveAsked(this, network, "takes itself for in sync");
    for (const step of plan(kernel.readNow(network), desired, inSync)) {
      if (faulty && chance(this.random, 2)) {
        faults.kernelFailures++;
        this.later(KERNEL_RETRY_MS, () => this.dirty(network));
        return;
      }
      kernel.applyNow(network, [step]);
      this.#world.trace(`h${this.host.k} ${step.kind} ${network.slice(0, 6)}`);
      monitor.stepDone(this, record, network, step);
    }
    monitor.passed(this.host, network, desired);
  }

  #linger(network: NetworkId): void {
    if (!this.hosted.has(network) || this.#leaving.has(network)) return;
    const ticket = this.#world.queue.count;
    this.#leaving.set(network, ticket);
    this.later(LINGER_MS, () => {
      if (this.#leaving.get(network) !== ticket) return;
      this.#leaving.delete(network);
      if (this.endpoints(network).length === 0) this.#leave(network);
    });
  }

  #leave(network: NetworkId): void {
    this.hosted.delete(network);
    this.answers.left(network);
    this.#world.monitor.left(this.host, network);
    this.#unadopted = this.#unadopted.filter((other) => other !== network);
    this.#say();
    if (this.alive) this.run(this.networks.leave(network));
  }

  #say(): void {
    const state = this.tables.state;
    const own = state?.nodes.find(({ id }) => id === this.node);
    if (own === undefined) return;
    const hosting = [...this.hosted];
    this.runCluster(
      this.cluster.say({
        bootId: this.host.bootId,
        vtep: { advertised: own.vtep, local: own.vtep },
        underlayMtuBytes: own.underlayMtuBytes,
        capabilities: [],
        hosting,
        needs: hosting.filter((network) => this.endpoints(network).length > 0),
      }),
    );
  }

  /** The timer stands at what the core wants next. */
  #wake(): void {
    if (!this.alive) return;
    const nextMs = Math.min(this.networks.nextMs() ?? Infinity, this.cluster.nextMs());
    const atMs = Math.max(this.host.atMs(nextMs), this.#world.queue.nowMs + 1);
    if (atMs >= this.#wakeAtMs && this.#wakeAtMs > this.#world.queue.nowMs) return;
    this.#wakeAtMs = atMs;
    this.at(atMs, () => {
      if (this.#wakeAtMs !== atMs) return;
      this.#wakeAtMs = 0;
      this.run(this.networks.tick(this.#now()));
      if (this.alive) this.runCluster(this.cluster.tick(this.#now()));
    });
  }

  /** kill -9 between two of the things that one input asked for. */
  #diesBetween(): boolean {
    if (!this.alive) return true;
    const { faulty, faults, queue } = this.#world;
    if (!faulty || this.host.isClone || !chance(this.random, 0.05)) return false;
    faults.crashes++;
    faults.crashesBetween++;
    this.host.kill();
    queue.after(50 + this.random.below(1000), () => this.host.start());
    return true;
  }

  #records(): readonly NetworkRecord[] {
    return this.tables.state?.networks ?? [];
  }

  #now(): number {
    return this.host.nowMs();
  }
}

function isSame(endpoint: Endpoint): (other: Endpoint) => boolean {
  return (other) =>
    other.id === endpoint.id &&
    other.out === endpoint.out &&
    other.mac === endpoint.mac &&
    other.ipv4 === endpoint.ipv4 &&
    other.ipv6 === endpoint.ipv6;
}
