import { basename } from "node:path";
import { z } from "zod";
import { decodeCbor, encodeCbor } from "../shared/codec.ts";
import { EndpointId, NetworkId } from "../shared/ids.ts";
import type { AgentStore } from "./store/port.ts";

/** Of Docker's SandboxKey: `/var/run/docker/netns/<12 hex>`. */
const Joined = z.object({ endpoint: EndpointId, network: NetworkId, path: z.string().max(4096) });
export type Joined = z.infer<typeof Joined>;

const PREFIX = "joined/";
const MAX_BYTES = 8192;

/**
 * Which endpoint is in which container's namespace: Docker says it once, at Join, so it is on disk
 * before that is answered.
 */
export class Sandboxes {
  readonly #store: AgentStore;
  readonly #joined = new Map<EndpointId, Joined>();

  constructor(store: AgentStore) {
    this.#store = store;
    for (const { value } of store.list(PREFIX)) {
      const joined = Joined.parse(decodeCbor(value, MAX_BYTES));
      this.#joined.set(joined.endpoint, joined);
    }
  }

  all(): Joined[] {
    return [...this.#joined.values()];
  }

  of(endpoint: EndpointId): Joined | undefined {
    return this.#joined.get(endpoint);
  }

  put(joined: Joined): void {
    this.#joined.set(joined.endpoint, joined);
    const value = encodeCbor(joined);
    this.#store.write([{ kind: "put", key: PREFIX + joined.endpoint, value }]);
  }

  remove(endpoint: EndpointId): void {
    if (!this.#joined.delete(endpoint)) return;
    this.#store.write([{ kind: "delete", key: PREFIX + endpoint }]);
  }
}

/** The namespace's name in Docker's directory, which tells sandboxes apart. */
export function sandboxName(path: string): string {
  return basename(path);
}
