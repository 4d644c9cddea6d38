import {
  endpointsHash,
  type HostDocument,
  hostSigningBytes,
  type NetworkDelta,
  type NetworkDocument,
  networkSigningBytes,
  sortEndpoints,
} from "../../../shared/documents.ts";
import type { Hasher, Verifier } from "../../../shared/ports.ts";

/** The owner signed exactly these endpoints, in order, each id once. */
export function documentHolds(
  document: NetworkDocument,
  hasher: Hasher,
  verifier: Verifier,
): boolean {
  const { network, node, version, endpoints, signature } = document;
  const ids = new Set(endpoints.map((endpoint) => endpoint.id));
  const sorted = sortEndpoints(endpoints).every((endpoint, i) => endpoint === endpoints[i]);
  if (ids.size !== endpoints.length || !sorted) return false;
  const message = networkSigningBytes(network, node, version, endpointsHash(hasher, endpoints));
  return verifier.verify(node, message, signature);
}

/** The owner signed what is said of it. */
export function hostHolds(document: HostDocument, verifier: Verifier): boolean {
  return verifier.verify(document.node, hostSigningBytes(document), document.signature);
}

/** The owner signed the hash the delta leads to; whether it does is seen when it is applied. */
export function deltaHolds(delta: NetworkDelta, verifier: Verifier): boolean {
  const { network, node, version, hash, signature } = delta;
  return verifier.verify(node, networkSigningBytes(network, node, version, hash), signature);
}
