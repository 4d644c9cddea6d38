import { BOUNDS } from "../../shared/bounds.ts";
import type { ClusterState, SignedState } from "../../shared/cluster-state.ts";
import { encodeCbor } from "../../shared/codec.ts";
import type { Endpoint } from "../../shared/documents.ts";
import type { EndpointId, NetworkId, NodeId } from "../../shared/ids.ts";
import type { Clock, Hasher, Log, Random, Signer, Timers, Verifier } from "../../shared/ports.ts";
import type { Failure } from "../../shared/errors.ts";
import { Signal } from "../../shared/signal.ts";
import type { StateHead } from "../../shared/state/head.ts";
import { ClusterSyncRequest } from "../core/tables/cluster-messages.ts";
import type { ClusterOutput } from "../core/tables/cluster-output.ts";
import { ClusterReplica, type HostFacts } from "../core/tables/cluster-replica.ts";
import type { HeadedChange } from "../core/tables/followed-state.ts";
import { saysOn } from "../core/tables/hosts.ts";
import { decodeMessage } from "../core/tables/messages.ts";
import { DEFAULT_REPLICA_OPTIONS, type Output, Replica } from "../core/tables/replica.ts";
import { type Heard, isAlone, isComplete } from "../core/data-plane/prune-gate.ts";
import { ChosenPeers } from "./chosen-peers.ts";
import type { Mesh, MeshHandlers } from "./gossip/port.ts";
import { restoredTables } from "./restore-tables.ts";
import type { SavedTables } from "./saved-tables.ts";
import { checkTables, type TableFault } from "./verify-tables.ts";
import {
  CLUSTER_TOPIC,
  FOR_CLUSTER,
  FOR_KEYS,
  FOR_NETWORK,
  networkOf,
  requestFor,
  topicOf,
} from "./request-kinds.ts";

export interface ReplicationModules {
  readonly mesh: Mesh;
  readonly saved: SavedTables;
  readonly clock: Pick<Clock, "nowMs">;
  readonly timers: Timers;
  readonly random: Random;
  readonly hasher: Hasher;
  readonly signer: Signer;
  readonly verifier: Verifier;
  readonly log: Log;
  /** The chain of trust from the pinned root key. @throws UNAUTHENTICATED */
  readonly verifyState: (signed: SignedState) => Promise<ClusterState>;
  /** Of a head alone; whether objects are its own is the core's concern. @throws UNAUTHENTICATED */
  readonly verifyHead: (
    signed: Pick<SignedState, "jws" | "controllerCertificate">,
  ) => Promise<StateHead>;
  /** A question about the keys of our pair. @throws OverlayError: it is refused. */
  readonly answerKeys: (from: NodeId, question: Uint8Array) => Promise<Uint8Array>;
}

/** Carries the pure replicas' outputs to mesh and disk, and what comes from there to them. */
export class Replication {
  readonly cluster: ClusterReplica;
  readonly networks: Replica;
  /** What the kernel should hold of the network may be another. */
  readonly networkChanged = new Signal<[NetworkId]>();
  /** The state or a host document is another: any network may look different. */
  readonly clusterChanged = new Signal();
  /** The mesh's connection with the host ended. */
  readonly disconnected = new Signal<[NodeId]>();
  /** Signatures of documents and deltas, and signed states, that were checked: work that each change costs. */
  readonly checked = { signatures: 0, states: 0 };
  readonly #node: NodeId;
  readonly #modules: ReplicationModules;
  readonly #waiting = new Set<{ network: NetworkId; resolve: () => void }>();
  #timer: (() => void) | undefined;
  #stopped = false;
  #networksOnDisk: ClusterState["networks"] | undefined;
  #applied: ClusterState | undefined;
  readonly #peers: ChosenPeers;

  constructor(node: NodeId, modules: ReplicationModules) {
    this.#node = node;
    this.#modules = counted(modules, this.checked);
    this.#peers = new ChosenPeers(node, modules.hasher);
    const options = { ...DEFAULT_REPLICA_OPTIONS, node };
    this.networks = new Replica(options, {
      ...this.#modules,
      peers: (network) => this.#peersOn(network),
    });
    this.cluster = new ClusterReplica(this.networks.tables, options, {
      ...this.#modules,
      peers: () => this.#modules.mesh.connections(),
    });
  }

  get tables(): Replica["tables"] {
    return this.networks.tables;
  }

  /** From disk, before anything else. @throws UNAUTHENTICATED when not even the state of the joining holds. */
  async restore(joinedWith: SignedState): Promise<void> {
    const restored = await restoredTables(this.#modules, joinedWith);
    const { signed, state, changes, hosts, documents } = restored;
    this.cluster.restore(hosts, signed, state, changes);
    this.networks.restore(documents);
  }

  async start(): Promise<void> {
    const { mesh } = this.#modules;
    await mesh.start(this.#meshHandlers());
    await mesh.join(CLUSTER_TOPIC, undefined);
    this.#applyState();
    this.#tick();
  }

  /** Stops talking; tables on disk and the kernel stay as they are. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.();
    await this.#modules.mesh.stop();
  }

  say(facts: HostFacts): void {
    this.#runCluster(this.cluster.say(facts, this.#now()));
  }

  /** See `ClusterReplica.stateIsFresh`. */
  stateIsFresh(): boolean {
    return this.cluster.stateIsFresh();
  }

  /** The newest state as it was signed, if it is newer than `revision`, or another of that than `root` is of. */
  stateAfter(revision: number, root?: string): SignedState | undefined {
    const held = this.tables.state?.revision ?? 0;
    const point = root === undefined || held !== revision ? undefined : this.cluster.point();
    const isFork = point !== undefined && point.root !== root;
    return held > revision || isFork ? this.cluster.proof() : undefined;
  }

  /** Of one revision two states were signed. */
  forkFailure(): Failure | undefined {
    const revision = this.cluster.fork();
    if (revision === undefined) return undefined;
    return {
      code: "STALE",
      message: `two states of revision ${revision} were signed: the controller's data were put back, or there are two controllers; all hosts take the same one`,
      next: "run `overlay-ts controller recover --from-mesh` on the controller's host, and end a second controller",
    };
  }

  /** What of the tables is not as it was signed, as the disk has it, or as peers have it. */
  faults(): TableFault[] {
    return checkTables({
      ...this.#modules,
      self: this.#node,
      tables: this.tables,
      signed: this.cluster.signed(),
      differing: (network) => this.networks.differing(network),
    });
  }

  /** From the controller itself. False: what it says of what is held leads nowhere; all of it is to be asked for. */
  async controllerTold(signed: SignedState): Promise<boolean> {
    const { verifyState, verifyHead } = this.#modules;
    const { changes, controllerCertificate } = signed;
    if (changes === undefined) {
      const state = await verifyState(signed);
      this.#runCluster(this.cluster.controllerTold(signed, state, this.#now()));
      return true;
    }
    const newest = await verifyHead(signed);
    const headed: HeadedChange[] = [];
    for (const change of changes) {
      const told = { ...change, controllerCertificate };
      headed.push({ signed: told, head: await verifyHead(told) });
    }
    this.#runCluster(this.cluster.changesTold(newest, headed, this.#now()));
    return (this.tables.state?.revision ?? 0) >= newest.revision;
  }

  /** The controller itself says so. */
  stateIsNewest(revision: number): void {
    this.#runCluster(this.cluster.isNewest(revision));
  }

  /** See `ClusterReplica.otherMachine`. */
  otherMachine(): string | undefined {
    return this.cluster.otherMachine(this.#now());
  }

  /** A connection with the host is kept from here; it may keep one too. */
  dials(node: NodeId): boolean {
    return this.#peers.chosen.has(node);
  }

  /** Some peer that should be connected is not. */
  missesPeers(): boolean {
    const connected = new Set(this.#modules.mesh.connections());
    return [...this.#peers.chosen].some((peer) => !connected.has(peer));
  }

  /** The first endpoint is about to come. */
  async join(network: NetworkId, key: Uint8Array): Promise<void> {
    await this.#modules.mesh.join(topicOf(network), key);
    this.#run(this.networks.join(network, this.#now()));
  }

  async leave(network: NetworkId): Promise<void> {
    this.#run(this.networks.leave(network));
    await this.#modules.mesh.leave(topicOf(network));
  }

  /**
   * An endpoint that is about to be: on disk before anybody is told, or it is not.
   * @throws FULL, STORE: nothing has changed.
   */
  begin(network: NetworkId, endpoint: Endpoint): void {
    const proposed = this.networks.propose(network, [endpoint], []);
    this.#modules.saved.keepDocument(proposed.document);
    const outputs = this.networks.carryOut(proposed, this.#now());
    this.#run(outputs.filter(({ kind }) => kind !== "persist"));
  }

  /** What is so already: told at once, and kept when the disk takes it. @throws FULL */
  change(network: NetworkId, put: readonly Endpoint[], remove: readonly EndpointId[]): void {
    this.#run(this.networks.change(network, put, remove, this.#now()));
  }

  /** Since the start, of the network and of the cluster. */
  heard(network: NetworkId): Heard {
    const { cluster, networks } = this;
    return {
      stateIsFresh: cluster.stateIsFresh(),
      hostsInSync: cluster.inSync(),
      inSync: networks.inSync(network),
    };
  }

  /** For people: whether all that others say was had, and whether there are others. */
  standing(network: NetworkId): { inSync: boolean; alone: boolean } {
    const alone = isAlone(this.tables, this.#node, network, this.heard(network));
    return { inSync: this.isComplete(network), alone };
  }

  /** All that others say of the network was had. */
  isComplete(network: NetworkId): boolean {
    return isComplete(this.tables, this.#node, network, this.heard(network));
  }

  /** Resolves when it is complete, or after `timeoutMs` all the same. */
  async completed(network: NetworkId, timeoutMs: number): Promise<void> {
    if (this.isComplete(network)) return;
    await new Promise<void>((resolve) => {
      const waiter = {
        network,
        resolve: () => {
          cancel();
          this.#waiting.delete(waiter);
          resolve();
        },
      };
      const cancel = this.#modules.timers.after(timeoutMs, waiter.resolve);
      this.#waiting.add(waiter);
    });
  }

  #peersOn(network: NetworkId): NodeId[] {
    const { hosts } = this.tables;
    const connected = this.#modules.mesh.connections();
    return connected.filter((id) => saysOn(hosts, id, network));
  }

  #meshHandlers(): MeshHandlers {
    return {
      message: (topic, from, bytes) => {
        if (topic === CLUSTER_TOPIC)
          this.#runCluster(this.cluster.gossip(from, bytes, this.#now()));
        else this.#run(this.networks.gossip(networkOf(topic), from, bytes, this.#now()));
      },
      request: (from, bytes) => this.#answer(from, bytes),
      connected: (node) => {
        this.networks.connected(this.#now());
        this.#runCluster(this.cluster.connected(node, this.#now()));
      },
      disconnected: (node) => this.disconnected.emit(node),
    };
  }

  async #answer(from: NodeId, bytes: Uint8Array): Promise<Uint8Array> {
    const body = bytes.subarray(1);
    if (bytes[0] === FOR_KEYS) return this.#modules.answerKeys(from, body);
    const answer =
      bytes[0] === FOR_NETWORK ? this.networks.answer(from, body) : this.#answerCluster(from, body);
    // The question may have shown that the peer holds something else.
    this.#wake();
    return answer;
  }

  #answerCluster(from: NodeId, body: Uint8Array): Uint8Array {
    const request = decodeMessage(ClusterSyncRequest, body, BOUNDS.syncMessageBytes);
    return encodeCbor(this.cluster.answer(from, request));
  }

  /** Who listens is told last: what it says in its turn comes after what it heard, on the disk and on the mesh. */
  #run(outputs: readonly Output[]): void {
    const { saved } = this.#modules;
    const dirty = new Set<NetworkId>();
    for (const output of outputs)
      switch (output.kind) {
        case "persist":
          saved.saveDocument(output.document);
          break;
        case "forget":
          saved.forgetDocuments(output.network, this.#node);
          break;
        case "publish":
          this.#publish(topicOf(output.network), output.bytes);
          break;
        case "request":
          this.#request(output.to, FOR_NETWORK, output.bytes, {
            answered: (bytes) => this.#run(this.networks.answered(output.id, bytes, this.#now())),
            failed: () => this.networks.requestFailed(output.id),
          });
          break;
        case "dirty":
          dirty.add(output.network);
      }
    for (const network of dirty) this.networkChanged.emit(network);
    this.#wake();
  }

  /** What follows from the tables comes last: this host may say more of itself then, after what is written here. */
  #runCluster(outputs: readonly ClusterOutput[]): void {
    const { saved } = this.#modules;
    let isChanged = false;
    for (const output of outputs)
      switch (output.kind) {
        case "persistHost":
          saved.saveHost(output.document);
          this.#peers.heard(output.document);
          break;
        case "persistState":
          saved.saveState(output.signed);
          break;
        case "persistChange":
          saved.saveChange(output.revision, output.signed);
          break;
        case "publish":
          this.#publish(CLUSTER_TOPIC, output.bytes);
          break;
        case "request":
          this.#request(output.to, FOR_CLUSTER, output.bytes, {
            answered: (bytes) =>
              this.#runCluster(this.cluster.answered(output.id, bytes, this.#now())),
            failed: () => this.#runCluster(this.cluster.requestFailed(output.id, this.#now())),
          });
          break;
        case "verifyState":
          this.#refused(this.#peersState(output.signed));
          break;
        case "verifyHead":
          this.#refused(this.#peersHead(output));
          break;
        case "verifyChange":
          this.#refused(this.#peersChange(output));
          break;
        case "changed":
          isChanged = true;
      }
    if (isChanged) this.#applyState();
    this.#wake();
  }

  /** What depends on the state or on host documents: whom to admit and dial, and everything else. */
  #applyState(): void {
    const { state, hosts } = this.tables;
    const { mesh } = this.#modules;
    if (state === undefined) return;
    if (state !== this.#applied) this.#stateCame(state);
    if (this.#peers.changed(state, hosts)) {
      const { chosen } = this.#peers;
      const port = state.settings.ports.gossip;
      mesh.wantPeers(
        state.nodes
          .filter(({ id }) => chosen.has(id))
          .map(({ id, address }) => ({ node: id, address, port })),
      );
    }
    this.networks.peersChanged(this.#now());
    this.clusterChanged.emit();
  }

  #stateCame(state: ClusterState): void {
    const { mesh, saved } = this.#modules;
    this.#applied = state;
    // All that is on disk is looked through: not for each block that is given to some host.
    if (state.networks !== this.#networksOnDisk) saved.forgetOthers(state);
    this.#networksOnDisk = state.networks;
    mesh.admit({
      revision: state.revision,
      nodes: state.nodes.map(({ id }) => id),
      revoked: state.revoked,
    });
  }

  /** @throws UNAUTHENTICATED */
  async #peersState(signed: SignedState): Promise<void> {
    const state = await this.#modules.verifyState(signed);
    this.#runCluster(this.cluster.stateVerified(signed, state, this.#now()));
  }

  /** @throws UNAUTHENTICATED */
  async #peersChange({
    from,
    signed,
    controllerCertificate,
  }: Extract<ClusterOutput, { kind: "verifyChange" }>): Promise<void> {
    const { verifyHead } = this.#modules;
    const head = await verifyHead({ jws: signed.jws, controllerCertificate });
    const whole = { ...signed, controllerCertificate };
    this.#runCluster(this.cluster.changeVerified(from, whole, head, this.#now()));
  }

  /** @throws UNAUTHENTICATED */
  async #peersHead({
    from,
    signed,
  }: Extract<ClusterOutput, { kind: "verifyHead" }>): Promise<void> {
    const head = await this.#modules.verifyHead(signed);
    this.#runCluster(this.cluster.headVerified(from, signed, head, this.#now()));
  }

  #refused(checked: Promise<void>): void {
    checked.catch((error: unknown) => {
      this.cluster.counters.badState++;
      this.#modules.log.warn(
        { err: error },
        "a state from another host was refused; the one before stays in force",
      );
    });
  }

  #publish(topic: string, bytes: Uint8Array): void {
    // Lost or not: anti-entropy repairs.
    this.#modules.mesh
      .publish(topic, bytes)
      .catch((error: unknown) =>
        this.#modules.log.debug(
          { topic, err: error },
          "could not send a message to a topic; peers fetch what they miss",
        ),
      );
  }

  #request(
    to: NodeId,
    kind: number,
    body: Uint8Array,
    then: { answered: (bytes: Uint8Array) => void; failed: () => void },
  ): void {
    this.#modules.mesh
      .request(to, requestFor(kind, body), DEFAULT_REPLICA_OPTIONS.requestTimeoutMs)
      .then(then.answered, then.failed);
  }

  #tick(): void {
    const now = this.#now();
    this.#run(this.networks.tick(now));
    this.#runCluster(this.cluster.tick(now));
  }

  /** After every input: who waited may go on, and the timer stands at what comes next. */
  #wake(): void {
    for (const { network, resolve } of this.#waiting) if (this.isComplete(network)) resolve();
    this.#timer?.();
    if (this.#stopped) return;
    const next = Math.min(this.networks.nextMs() ?? Infinity, this.cluster.nextMs());
    const waitMs = Math.max(1, next - this.#now());
    this.#timer = this.#modules.timers.after(waitMs, () => this.#tick());
  }

  #now(): number {
    return this.#modules.clock.nowMs();
  }
}

function counted(modules: ReplicationModules, counts: Replication["checked"]): ReplicationModules {
  return {
    ...modules,
    verifier: {
      verify: (node, message, signature) => {
        counts.signatures++;
        return modules.verifier.verify(node, message, signature);
      },
    },
    verifyState: (signed) => {
      counts.states++;
      return modules.verifyState(signed);
    },
    verifyHead: (signed) => {
      counts.signatures++;
      return modules.verifyHead(signed);
    },
  };
}
