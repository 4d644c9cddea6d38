import { OverlayError } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";
import { equalBytes } from "../../shared/codec.ts";
import type {
  Admission,
  Mesh,
  MeshHandlers,
  MeshPeer,
} from "../../agent/replication/gossip/port.ts";

/** The mesh in memory: the fast twin of libp2p in tests. Meshes of one `net` can reach each other. */
export class MemoryMesh implements Mesh {
  readonly #node: NodeId;
  readonly #net: Map<NodeId, MemoryMesh>;
  readonly #topics = new Map<string, Uint8Array | undefined>();
  readonly #connected = new Set<NodeId>();
  readonly #counters: Record<string, number> = { unsealed: 0 };
  #admission: Admission = { revision: 0, nodes: [], revoked: [] };
  #wanted: readonly MeshPeer[] = [];
  #handlers: MeshHandlers | undefined;

  constructor(node: NodeId, net: Map<NodeId, MemoryMesh>) {
    this.#node = node;
    this.#net = net;
  }

  start(handlers: MeshHandlers): Promise<void> {
    this.#handlers = handlers;
    this.#net.set(this.#node, this);
    for (const other of this.#net.values()) other.#dialAll();
    return Promise.resolve();
  }

  admit(admission: Admission): void {
    this.#admission = admission;
    for (const node of this.#connected)
      if (admission.revoked.includes(node)) {
        this.#counters["cutRevoked"] = (this.#counters["cutRevoked"] ?? 0) + 1;
        this.#cut(node);
      }
  }

  wantPeers(peers: readonly MeshPeer[]): void {
    this.#wanted = peers;
    this.#dialAll();
  }

  join(topic: string, key: Uint8Array | undefined): Promise<void> {
    this.#topics.set(topic, key);
    return Promise.resolve();
  }

  leave(topic: string): Promise<void> {
    this.#topics.delete(topic);
    return Promise.resolve();
  }

  publish(topic: string, bytes: Uint8Array): Promise<void> {
    const key = this.#topics.get(topic);
    for (const other of this.#others()) other.#hear(topic, this.#node, bytes, key);
    return Promise.resolve();
  }

  async request(node: NodeId, bytes: Uint8Array, _timeoutMs: number): Promise<Uint8Array> {
    const other = this.#others().find((candidate) => candidate.#node === node);
    const handlers = other === undefined ? undefined : other.#handlers;
    const failed = (cause?: unknown): OverlayError =>
      new OverlayError({ code: "UNREACHABLE", message: `host ${node} cannot be asked` }, { cause });
    if (handlers === undefined) throw failed();
    try {
      return await handlers.request(this.#node, bytes);
    } catch (error) {
      throw failed(error);
    }
  }

  connections(): NodeId[] {
    return [...this.#connected];
  }

  /** All of one process are of one version. */
  otherVersions(): Promise<readonly []> {
    return Promise.resolve([]);
  }

  owesSinceMs(): undefined {
    return undefined;
  }

  counters(): Promise<Readonly<Record<string, number>>> {
    return Promise.resolve({ ...this.#counters });
  }

  stop(): Promise<void> {
    this.#net.delete(this.#node);
    this.#handlers = undefined;
    for (const node of this.#connected) this.#cut(node);
    return Promise.resolve();
  }

  #others(): MemoryMesh[] {
    return [...this.#connected].flatMap((node) => this.#net.get(node) ?? []);
  }

  #dialAll(): void {
    for (const { node } of this.#wanted) {
      const other = this.#net.get(node);
      if (this.#handlers === undefined || other === undefined) continue;
      if (other.#handlers === undefined) continue;
      if (this.#connected.has(node) || !other.#admits(this.#node) || !this.#admits(node)) continue;
      this.#connected.add(node);
      other.#connected.add(this.#node);
      this.#handlers.connected(node);
      other.#handlers.connected(this.#node);
    }
  }

  #admits(node: NodeId): boolean {
    const welcome = this.#admission.nodes.includes(node) && !this.#admission.revoked.includes(node);
    if (!welcome) {
      const why = this.#admission.revoked.includes(node) ? "refusedRevoked" : "refusedNotAdmitted";
      this.#counters[why] = (this.#counters[why] ?? 0) + 1;
    }
    return welcome;
  }

  #hear(topic: string, from: NodeId, bytes: Uint8Array, key: Uint8Array | undefined): void {
    if (!this.#topics.has(topic)) return;
    const own = this.#topics.get(topic);
    const same = own === undefined ? key === undefined : key !== undefined && equalBytes(own, key);
    if (same) this.#handlers?.message(topic, from, bytes);
    else this.#counters["unsealed"] = (this.#counters["unsealed"] ?? 0) + 1;
  }

  #cut(node: NodeId): void {
    const other = this.#net.get(node);
    this.#connected.delete(node);
    this.#handlers?.disconnected(node);
    if (other !== undefined && other.#connected.delete(this.#node))
      other.#handlers?.disconnected(this.#node);
  }
}
