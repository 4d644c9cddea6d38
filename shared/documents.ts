import { z } from "zod";
import { BOUNDS } from "./bounds.ts";
import { encodeCbor, hex } from "./codec.ts";
import { EndpointId, NetworkId, NodeId } from "./ids.ts";
import { familyOf, Ip } from "./ip.ts";
import { linkLocalOf, Mac } from "./mac.ts";
import type { Hasher } from "./ports.ts";

const bytesOf = (length: number) =>
  z.custom<Uint8Array>(
    (value) => value instanceof Uint8Array && value.length === length,
    `not ${length} bytes`,
  );
export const Sha256 = bytesOf(32);
const Signature = bytesOf(64);

/** Orders the states of one owner's document: incarnation first, then seq. */
export const Version = z.object({
  /** Raised when the owner meets a newer document of its own: old disk, restored VM. */
  incarnation: z.number().int().min(1),
  /** +1 with each change. */
  seq: z.number().int().min(1),
});
export type Version = z.infer<typeof Version>;

/** One interface on a network. Fields of later versions are kept: they are hashed. */
export const Endpoint = z.looseObject({
  id: EndpointId,
  ipv4: Ip.optional(),
  ipv6: Ip.optional(),
  mac: Mac,
  /** `host`: the host's own, of `network expose`. Absent: a container's. */
  role: z.enum(["container", "host"]).optional(),
  /**
   * What the network's members find it by, in canonical form (dns-name.ts), the container's name first.
   * Absent: Docker has not told it yet, or it has ended. What is no name is passed over when reading.
   */
  names: z.array(z.string().max(BOUNDS.nameLength)).max(BOUNDS.endpointNames).optional(),
  /** Those that are one too many for `names`; hosts of 0.1.0 pass them on and do not know them. */
  moreNames: z.array(z.string().max(BOUNDS.nameLength)).max(BOUNDS.moreEndpointNames).optional(),
  /** Why it is in no answer, an `OutReason` of this or a later version; absent: it is. */
  out: z.string().max(32).optional(),
  /** Ports that it publishes or exposes, `80/tcp`, in order. What is none is passed over when reading; 0.1.0 passes all on. */
  ports: z.array(z.string().max(16)).max(BOUNDS.endpointPorts).optional(),
});
export type Endpoint = z.infer<typeof Endpoint>;

/** The addresses an endpoint claims, IPv4 first. */
export function claimedAddresses({ ipv4, ipv6 }: Pick<Endpoint, "ipv4" | "ipv6">): Ip[] {
  return [ipv4, ipv6].filter((ip) => ip !== undefined);
}

/** The first of each family, as an endpoint holds them. */
export function familiesOf(ips: readonly Ip[]): Pick<Endpoint, "ipv4" | "ipv6"> {
  const ipv4 = ips.find((ip) => familyOf(ip) === 4);
  const ipv6 = ips.find((ip) => familyOf(ip) === 6);
  return { ...(ipv4 === undefined ? {} : { ipv4 }), ...(ipv6 === undefined ? {} : { ipv6 }) };
}

/** All it may speak from: with an IPv6 address also the link-local one, which follows from its MAC. */
export function addressesOf(endpoint: Endpoint): Ip[] {
  const claimed = claimedAddresses(endpoint);
  return endpoint.ipv6 === undefined ? claimed : [...claimed, linkLocalOf(endpoint.mac)];
}

/** Endpoints of one host on one network, sorted by id. The owner alone writes it. */
export const NetworkDocument = z.object({
  network: NetworkId,
  node: NodeId,
  version: Version,
  endpoints: z.array(Endpoint).max(BOUNDS.endpointsPerHostAndNetwork),
  signature: Signature,
});
export type NetworkDocument = z.infer<typeof NetworkDocument>;

/** The change that made `version` from `previousSeq` of the same incarnation. */
export const NetworkDelta = z.object({
  network: NetworkId,
  node: NodeId,
  version: Version,
  previousSeq: z.number().int().min(0),
  put: z.array(Endpoint),
  remove: z.array(EndpointId),
  /** SHA-256 of the whole document after the change, what `signature` covers. */
  hash: Sha256,
  signature: Signature,
});
export type NetworkDelta = z.infer<typeof NetworkDelta>;

/** What a host says of itself, on the cluster topic. */
export const HostDocument = z.looseObject({
  node: NodeId,
  version: Version,
  /** random(4): another one each time the machine starts; two that live with one node id are clones. */
  bootId: z.string().max(64),
  /** The boot whose word the owner met as newer than its own, and overtook in this incarnation. */
  overtook: z.string().max(64).optional(),
  vtep: z.object({ advertised: Ip, local: Ip }),
  underlayMtuBytes: z.number().int(),
  wireguardKey: z.string().max(64).optional(),
  capabilities: z.array(z.string().max(32)).max(64),
  /** Networks the host has an endpoint on, sorted. */
  hosting: z.array(NetworkId).max(BOUNDS.networks),
  /** Networks that a container here refers to, running or stopped, sorted. Absent: as `hosting`. */
  needs: z.array(NetworkId).max(BOUNDS.networks).optional(),
  signature: Signature,
});
export type HostDocument = z.infer<typeof HostDocument>;

/** <0, 0, >0 as a is older, equal, newer. */
export function compareVersions(a: Version, b: Version): number {
  return a.incarnation - b.incarnation || a.seq - b.seq;
}

/** As much of either kind of document as says which counts. */
export type Signed = Pick<NetworkDocument, "version" | "signature">;

/**
 * Of two documents of one owner, which counts: that of the higher version; of one version, which a host
 * with two histories has signed twice (a clone, a disk of before), that of the greater signature, so that
 * all who hold either end with the same. The owner, meeting it, says the truth under a higher one.
 */
export function supersedes(next: Signed, held: Signed | undefined): boolean {
  if (held === undefined) return true;
  const order = compareVersions(next.version, held.version);
  return order > 0 || (order === 0 && hex(next.signature) > hex(held.signature));
}

export function sortEndpoints(endpoints: readonly Endpoint[]): Endpoint[] {
  return endpoints.toSorted((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
}

const digests = new WeakMap<Endpoint, Uint8Array>();

function endpointDigest(hasher: Hasher, endpoint: Endpoint): Uint8Array {
  let digest = digests.get(endpoint);
  if (digest === undefined) {
    digest = hasher.sha256(encodeCbor(endpoint));
    digests.set(endpoint, digest);
  }
  return digest;
}

/**
 * SHA-256 over the endpoints' SHA-256s in id order, so that a change costs one encoding and a
 * receiver of a delta hashes 32 bytes an endpoint, not the document again.
 */
export function endpointsHash(hasher: Hasher, sorted: readonly Endpoint[]): Uint8Array {
  return hasher.sha256(...sorted.map((endpoint) => endpointDigest(hasher, endpoint)));
}

const documentHashes = new WeakMap<readonly Endpoint[], Uint8Array>();

/** The hash a document's signature covers; kept while the document lives, for digests. */
export function documentHash(
  hasher: Hasher,
  document: Pick<NetworkDocument, "endpoints">,
): Uint8Array {
  let hash = documentHashes.get(document.endpoints);
  if (hash === undefined) {
    hash = endpointsHash(hasher, document.endpoints);
    documentHashes.set(document.endpoints, hash);
  }
  return hash;
}

/** The bytes a host signs for a network document. */
export function networkSigningBytes(
  network: NetworkId,
  node: NodeId,
  version: Version,
  hash: Uint8Array,
): Uint8Array {
  return encodeCbor([
    "overlay-ts/network/1",
    network,
    node,
    version.incarnation,
    version.seq,
    hash,
  ]);
}

/** The bytes a host signs for its host document: all of it but the signature. */
export function hostSigningBytes(document: Omit<HostDocument, "signature">): Uint8Array {
  const { signature: _, ...body } = document as HostDocument;
  return encodeCbor(["overlay-ts/host/1", body]);
}
