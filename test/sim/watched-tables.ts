import { type NetworkKey, SavedTables } from "../../agent/replication/saved-tables.ts";
import type { Disk } from "../../agent/store/disk.ts";
import type { ClusterState, SignedChange, SignedState } from "../../shared/cluster-state.ts";
import type { HostDocument, NetworkDocument, Signed } from "../../shared/documents.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import type { SimAgent } from "./sim-agent.ts";
import type { World } from "./world.ts";

/** The agent's tables on its disk, and the monitor looks at what is kept there. */
export class WatchedTables extends SavedTables {
  readonly #agent: SimAgent;
  readonly #world: World;
  /** By host, or by network and host. */
  readonly #kept = new Map<string, Signed>();
  readonly #sinceMs = new Map<string, number>();
  #revision = 0;
  #held: ClusterState | undefined;

  constructor(disk: Disk, agent: SimAgent, world: World) {
    super(disk);
    this.#agent = agent;
    this.#world = world;
  }

  /** Virtual: when it was last taken in; long ago: at the start. */
  heldSinceMs(network: NetworkId, node: NodeId): number {
    return this.#sinceMs.get(`${network}/${node}`) ?? 0;
  }

  heardSinceMs(node: NodeId): number {
    return this.#sinceMs.get(node) ?? 0;
  }

  override state(): SignedState | undefined {
    const signed = super.state();
    if (signed !== undefined) this.#revision = this.#world.trust.verify(signed).revision;
    return signed;
  }

  override hosts(): HostDocument[] {
    const hosts = super.hosts();
    for (const document of hosts) this.#kept.set(document.node, document);
    return hosts;
  }

  override documents(): NetworkDocument[] {
    const documents = super.documents();
    for (const document of documents)
      this.#kept.set(`${document.network}/${document.node}`, document);
    return documents;
  }

  /** No key is missed: keys of networks are not modelled. */
  override key(): NetworkKey {
    return { epoch: Infinity, key: new Uint8Array(32) };
  }

  override saveState(signed: SignedState): void {
    super.saveState(signed);
    if (this.#agent.alive) this.#revisionCame(this.#world.trust.verify(signed).revision);
  }

  override saveChange(revision: number, signed: SignedChange): void {
    super.saveChange(revision, signed);
    if (this.#agent.alive) this.#revisionCame(revision);
  }

  override saveHost(document: HostDocument): void {
    super.saveHost(document);
    const { node, hosting } = document;
    const on = hosting.map((id) => id.slice(0, 6)).join();
    this.#came(node, `the word of ${node}`, document, `hears ${node.slice(-4)} is on ${on}`);
  }

  override saveDocument(document: NetworkDocument): void {
    super.saveDocument(document);
    this.#documentCame(document);
  }

  override keepDocument(document: NetworkDocument): void {
    super.keepDocument(document);
    this.#documentCame(document);
  }

  override forgetDocuments(network: NetworkId, owner: NodeId): void {
    super.forgetDocuments(network, owner);
    for (const key of this.#kept.keys())
      if (key.startsWith(network) && !key.endsWith(owner)) this.#kept.delete(key);
  }

  /** The same again is kept in its other form. */
  #revisionCame(revision: number): void {
    const { monitor, trace } = this.#world;
    monitor.stateIsSigned(this.#agent);
    const { state } = this.#agent.tables;
    const held = this.#held;
    if (state?.revision === revision) this.#held = state;
    if (revision === this.#revision) {
      monitor.forkIsWon(this.#agent, held, this.#held);
      return;
    }
    monitor.revisionWentOn(this.#agent, this.#revision, revision);
    this.#revision = revision;
    trace(`h${this.#agent.host.k} at revision ${revision}`);
  }

  #documentCame(document: NetworkDocument): void {
    const { network, node, endpoints } = document;
    const short = `${network.slice(0, 6)}/${node.slice(-4)}`;
    const what = `holds ${short} of ${endpoints.length}`;
    this.#came(`${network}/${node}`, `the document of ${node}`, document, what);
    if (this.#agent.alive) this.#world.monitor.documentKept(this.#agent, document);
  }

  #came(key: string, what: string, next: Signed, trace: string): void {
    if (!this.#agent.alive) return;
    this.#world.monitor.versionWentOn(this.#agent, what, this.#kept.get(key), next);
    this.#kept.set(key, next);
    this.#sinceMs.set(key, this.#world.queue.nowMs);
    const { incarnation, seq } = next.version;
    this.#world.trace(`h${this.#agent.host.k} ${trace}, version ${incarnation}.${seq}`);
  }
}
