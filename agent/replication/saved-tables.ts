import { z } from "zod";
import { type ClusterState, SignedChange, SignedState } from "../../shared/cluster-state.ts";
import { HostDocument, NetworkDocument } from "../../shared/documents.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import type { Disk } from "../store/disk.ts";

/**
 * What the agent's tables look like on disk: one entry a document; the state as it was signed, and after it an entry for each
 * change. Where it is objects under a head it has an entry of its own: 0.1.0 reads the other.
 */

const STATE = "state";
const OBJECTS = "objects";
const CHANGES = "change/";
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

  /** The newest; when it is lost, the one before. */
  state(): SignedState | undefined {
    return this.#disk.get(OBJECTS, SignedState) ?? this.#disk.get(STATE, SignedState);
  }

  /** By revision, in order. */
  changes(): (readonly [number, SignedChange])[] {
    const keys = this.#disk.keys(CHANGES).toSorted();
    return keys.flatMap((key) => {
      const signed = this.#disk.get(key, SignedChange);
      return signed === undefined ? [] : [[Number(key.slice(CHANGES.length)), signed] as const];
    });
  }

  hosts(): HostDocument[] {
    return this.#disk.list(HOSTS, HostDocument);
  }

  documents(): NetworkDocument[] {
    return this.#disk.list(DOCUMENTS, NetworkDocument);
  }

  hasState(signed: SignedState): boolean {
    return this.#disk.has(stateKey(signed), signed, SignedState);
  }

  hasChange(revision: number, signed: SignedChange): boolean {
    return this.#disk.has(changeKey(revision), signed, SignedChange);
  }

  hasHost(document: HostDocument): boolean {
    return this.#disk.has(HOSTS + document.node, document, HostDocument);
  }

  hasDocument(document: NetworkDocument): boolean {
    return this.#disk.has(documentKey(document), document, NetworkDocument);
  }

  /** In the place of all changes before it. */
  saveState(signed: SignedState): void {
    this.#disk.owePut(stateKey(signed), signed);
    const isWhole = signed.content === undefined;
    this.#disk.oweDelete(...this.#disk.keys(CHANGES), ...(isWhole ? this.#disk.keys(OBJECTS) : []));
  }

  saveChange(revision: number, signed: SignedChange): void {
    this.#disk.owePut(changeKey(revision), signed);
  }

  /** The newest can be read, and is not the controller's. */
  loseState(why: string): void {
    this.#disk.lose(this.#disk.keys(OBJECTS).length > 0 ? OBJECTS : STATE, why);
  }

  loseChange(revision: number, why: string): void {
    this.#disk.lose(changeKey(revision), why);
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

function stateKey({ content }: SignedState): string {
  return content === undefined ? STATE : OBJECTS;
}

function changeKey(revision: number): string {
  return CHANGES + String(revision).padStart(16, "0");
}

function documentKey({ network, node }: Pick<NetworkDocument, "network" | "node">): string {
  return `${DOCUMENTS}${network}/${node}`;
}
