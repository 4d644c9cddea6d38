import type { NodeId } from "../../shared/ids.ts";
import type { Admission, Mesh, MeshHandlers, MeshPeer, OtherVersion } from "./gossip/port.ts";
import type { Failure } from "../../shared/errors.ts";
import { CLUSTER_TOPIC, FOR_CLUSTER, FOR_KEYS, FOR_NETWORK } from "./request-kinds.ts";

/** What passes through the mesh, by what it is for; a question and its answer are two messages of one kind. */
const KINDS = ["clusterGossip", "networkGossip", "clusterSync", "networkSync", "keys"] as const;
type Kind = (typeof KINDS)[number];
type Way = "In" | "Out";

const OF_REQUEST: Readonly<Record<number, Kind>> = {
  [FOR_CLUSTER]: "clusterSync",
  [FOR_NETWORK]: "networkSync",
  [FOR_KEYS]: "keys",
};

/**
 * A mesh that counts what this host says and hears, as `networkSyncOut` messages and `networkSyncOutBytes`: payload, once,
 * however many peers gossip hands it to, and without the framing of gossipsub, Noise and TCP.
 */
export class CountedMesh implements Mesh {
  readonly #mesh: Mesh;
  readonly #counts: Record<string, number> = {};

  constructor(mesh: Mesh) {
    this.#mesh = mesh;
    for (const kind of KINDS)
      for (const way of ["In", "Out"])
        this.#counts[`${kind}${way}`] = this.#counts[`${kind}${way}Bytes`] = 0;
  }

  async counters(): Promise<Readonly<Record<string, number>>> {
    return { ...(await this.#mesh.counters()), ...this.#counts };
  }

  /** Without the mesh's own. */
  counts(): Readonly<Record<string, number>> {
    return { ...this.#counts };
  }

  start(handlers: MeshHandlers): Promise<void> {
    return this.#mesh.start({
      message: (topic, from, bytes) => {
        this.#count(gossipOf(topic), "In", bytes);
        handlers.message(topic, from, bytes);
      },
      request: async (from, bytes) => {
        const kind = requestOf(bytes);
        this.#count(kind, "In", bytes);
        const answer = await handlers.request(from, bytes);
        this.#count(kind, "Out", answer);
        return answer;
      },
      connected: (node) => handlers.connected(node),
      disconnected: (node) => handlers.disconnected(node),
    });
  }

  publish(topic: string, bytes: Uint8Array): Promise<void> {
    this.#count(gossipOf(topic), "Out", bytes);
    return this.#mesh.publish(topic, bytes);
  }

  async request(node: NodeId, bytes: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    const kind = requestOf(bytes);
    this.#count(kind, "Out", bytes);
    const answer = await this.#mesh.request(node, bytes, timeoutMs);
    this.#count(kind, "In", answer);
    return answer;
  }

  admit(admission: Admission): void {
    this.#mesh.admit(admission);
  }

  wantPeers(peers: readonly MeshPeer[]): void {
    this.#mesh.wantPeers(peers);
  }

  join(topic: string, key: Uint8Array | undefined): Promise<void> {
    return this.#mesh.join(topic, key);
  }

  leave(topic: string): Promise<void> {
    return this.#mesh.leave(topic);
  }

  connections(): NodeId[] {
    return this.#mesh.connections();
  }

  otherVersions(): Promise<readonly OtherVersion[]> {
    return this.#mesh.otherVersions();
  }

  failure(): Failure | undefined {
    return this.#mesh.failure?.();
  }

  owesSinceMs(): number | undefined {
    return this.#mesh.owesSinceMs();
  }

  stop(): Promise<void> {
    return this.#mesh.stop();
  }

  #count(kind: Kind | undefined, way: Way, { length }: Uint8Array): void {
    if (kind === undefined) return;
    const name = `${kind}${way}`;
    this.#counts[name] = (this.#counts[name] ?? 0) + 1;
    this.#counts[`${name}Bytes`] = (this.#counts[`${name}Bytes`] ?? 0) + length;
  }
}

function gossipOf(topic: string): Kind {
  return topic === CLUSTER_TOPIC ? "clusterGossip" : "networkGossip";
}

/** Undefined: of no kind that we know, and refused by who answers. */
function requestOf(bytes: Uint8Array): Kind | undefined {
  return OF_REQUEST[bytes[0] ?? -1];
}
