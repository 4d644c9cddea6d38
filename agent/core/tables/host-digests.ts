import { encodeCbor } from "../../../shared/codec.ts";
import { type HostDocument, hostSigningBytes } from "../../../shared/documents.ts";
import type { Hasher } from "../../../shared/ports.ts";
import type { HostDigest } from "./cluster-messages.ts";
import { isNews } from "./news.ts";
import type { Tables } from "./tables.ts";

/** All hosts' own documents: each one's version and hash, sorted by host, and the hash of it all. */
export interface Digest {
  readonly entries: HostDigest;
  /** SHA-256 of `entries` in CBOR; part of the wire. */
  readonly hash: Uint8Array;
}

/** What two hosts compare of all hosts' own documents. Of members only: of one state they then compare the same. */
export class HostDigests {
  readonly #tables: Tables;
  readonly #hasher: Hasher;
  readonly #hashes = new WeakMap<HostDocument, Uint8Array>();
  #last: (Digest & { of: object; members: object }) | undefined;

  constructor(tables: Tables, hasher: Hasher) {
    this.#tables = tables;
    this.#hasher = hasher;
  }

  /** Kept until a document or the members change: in a large cluster it is asked for far more often. */
  current(): Digest {
    const { hosts, hostsVersion: of, members } = this.#tables;
    if (this.#last?.of === of && this.#last.members === members) return this.#last;
    const entries = [...hosts.values()]
      .filter(({ node }) => members.has(node))
      .map((document) => this.entry(document))
      .toSorted((a, b) => (a.node < b.node ? -1 : 1));
    const hash = this.#hasher.sha256(encodeCbor(entries));
    this.#last = { of, members, entries, hash };
    return this.#last;
  }

  entry(document: HostDocument): HostDigest[number] {
    const { node, version } = document;
    let hash = this.#hashes.get(document);
    if (hash === undefined) {
      hash = this.#hasher.sha256(hostSigningBytes(document));
      this.#hashes.set(document, hash);
    }
    return { node, version, hash };
  }

  isNews(seen: HostDigest[number]): boolean {
    const held = this.#tables.hosts.get(seen.node);
    return isNews(seen, held, (document) => this.entry(document).hash);
  }
}
