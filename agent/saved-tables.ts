import { z } from "zod";
import { type ClusterState, SignedState } from "../shared/cluster-state.ts";
import { decodeCbor, encodeCbor } from "../shared/codec.ts";
import { HostDocument, NetworkDocument } from "../shared/documents.ts";
import type { NetworkId, NodeId } from "../shared/ids.ts";
import type { AgentStore } from "./store/port.ts";

/** What the agent's tables look like on disk: one entry a document, the state as it was signed. */

const MAX_BYTES = 8 * 1024 * 1024;
const STATE = "state";
const HOSTS = "host/";
const DOCUMENTS = "document/";
const KEYS = "key/";

export const NetworkKey = z.object({
  epoch: z.number().int(),
  key: z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length === 32),
});
export type NetworkKey = z.infer<typeof NetworkKey>;

export class SavedTables {
  readonly #store: AgentStore;

  constructor(store: AgentStore) {
    this.#store = store;
  }

  state(): SignedState | undefined {
    const bytes = this.#store.get(STATE);
    return bytes === undefined ? undefined : SignedState.parse(decodeCbor(bytes, MAX_BYTES));
  }

  hosts(): HostDocument[] {
    return this.#list(HOSTS, HostDocument);
  }

  documents(): NetworkDocument[] {
    return this.#list(DOCUMENTS, NetworkDocument);
  }

  saveState(signed: SignedState): void {
    this.#put(STATE, signed);
  }

  saveHost(document: HostDocument): void {
    this.#put(HOSTS + document.node, document);
  }

  saveDocument(document: NetworkDocument): void {
    this.#put(`${DOCUMENTS}${document.network}/${document.node}`, document);
  }

  key(network: NetworkId): NetworkKey | undefined {
    const bytes = this.#store.get(KEYS + network);
    return bytes === undefined ? undefined : NetworkKey.parse(decodeCbor(bytes, MAX_BYTES));
  }

  saveKey(network: NetworkId, key: NetworkKey): void {
    this.#put(KEYS + network, key);
  }

  /** Others' documents of a network that `owner` left; its own and the key stay for the next time. */
  forgetDocuments(network: NetworkId, owner: NodeId): void {
    const own = `${DOCUMENTS}${network}/${owner}`;
    const others = this.#store
      .list(`${DOCUMENTS}${network}/`)
      .filter(({ key }) => key !== own)
      .map(({ key }) => ({ kind: "delete", key }) as const);
    this.#store.write(others);
  }

  /** Networks that the cluster no longer has: nothing of them is kept. */
  forgetOthers(state: ClusterState): void {
    const known = new Set<string>(state.networks.map(({ id }) => id));
    for (const prefix of [DOCUMENTS, KEYS])
      for (const { key } of this.#store.list(prefix)) {
        const network = key.slice(prefix.length).split("/")[0] ?? "";
        if (!known.has(network)) this.#store.write([{ kind: "delete", key }]);
      }
  }

  #list<T>(prefix: string, schema: z.ZodType<T>): T[] {
    return this.#store.list(prefix).map(({ value }) => schema.parse(decodeCbor(value, MAX_BYTES)));
  }

  #put(key: string, value: unknown): void {
    this.#store.write([{ kind: "put", key, value: encodeCbor(value) }]);
  }
}
