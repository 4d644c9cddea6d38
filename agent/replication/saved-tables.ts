import { z } from "zod";
import { type ClusterState, SignedState } from "../../shared/cluster-state.ts";
import { HostDocument, NetworkDocument } from "../../shared/documents.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import type { Disk } from "../store/disk.ts";

/** What the agent's tables look like on disk: one entry a document, the state as it was signed. */

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
  readonly #disk: Disk;

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  state(): SignedState | undefined {
    return this.#disk.get(STATE, SignedState);
  }

  hosts(): HostDocument[] {
    return this.#disk.list(HOSTS, HostDocument);
  }

  documents(): NetworkDocument[] {
    return this.#disk.list(DOCUMENTS, NetworkDocument);
  }

  hasState(signed: SignedState): boolean {
    return this.#disk.has(STATE, signed, SignedState);
  }

  hasHost(document: HostDocument): boolean {
    return this.#disk.has(HOSTS + document.node, document, HostDocument);
  }

  hasDocument(document: NetworkDocument): boolean {
    return this.#disk.has(documentKey(document), document, NetworkDocument);
  }

  saveState(signed: SignedState): void {
    this.#disk.owePut(STATE, signed);
  }

  /** It can be read, and is not the controller's. */
  loseState(why: string): void {
    this.#disk.lose(STATE, why);
  }

  loseHost({ node }: HostDocument, why: string): void {
    this.#disk.lose(HOSTS + node, why);
  }

  loseDocument(document: NetworkDocument, why: string): void {
    this.#disk.lose(documentKey(document), why);
  }

  saveHost(document: HostDocument): void {
    this.#disk.owePut(HOSTS + document.node, document);
  }

  saveDocument(document: NetworkDocument): void {
    this.#disk.owePut(documentKey(document), document);
  }

  /** Before anybody is told of it. @throws STORE: it is not to be */
  keepDocument(document: NetworkDocument): void {
    this.#disk.put(documentKey(document), document);
  }

  key(network: NetworkId): NetworkKey | undefined {
    return this.#disk.get(KEYS + network, NetworkKey);
  }

  saveKey(network: NetworkId, key: NetworkKey): void {
    this.#disk.owePut(KEYS + network, key);
  }

  /** Others' documents of a network that `owner` left; its own and the key stay for the next time. */
  forgetDocuments(network: NetworkId, owner: NodeId): void {
    const own = documentKey({ network, node: owner });
    const held = this.#disk.keys(`${DOCUMENTS}${network}/`);
    this.#disk.oweDelete(...held.filter((key) => key !== own));
  }

  /** Networks that the cluster no longer has: nothing of them is kept. */
  forgetOthers(state: ClusterState): void {
    const known = new Set<string>(state.networks.map(({ id }) => id));
    for (const prefix of [DOCUMENTS, KEYS]) {
      const networkOf = (key: string): string => key.slice(prefix.length).split("/")[0] ?? "";
      const held = this.#disk.keys(prefix);
      this.#disk.oweDelete(...held.filter((key) => !known.has(networkOf(key))));
    }
  }
}

function documentKey({ network, node }: Pick<NetworkDocument, "network" | "node">): string {
  return `${DOCUMENTS}${network}/${node}`;
}
