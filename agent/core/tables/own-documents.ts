import { BOUNDS } from "../../../shared/bounds.ts";
import { OverlayError } from "../../../shared/errors.ts";
import {
  documentHash,
  endpointsHash,
  type Endpoint,
  type NetworkDelta,
  type NetworkDocument,
  networkSigningBytes,
  type Version,
} from "../../../shared/documents.ts";
import type { EndpointId, NetworkId, NodeId } from "../../../shared/ids.ts";
import type { Hasher, Signer } from "../../../shared/ports.ts";
import { isNews } from "./news.ts";
import { changeEndpoints } from "./tables.ts";

/**
 * What was overtaken once is left for so long until a comparison shows it again. Two machines with one identity
 * would else overtake each other as fast as packets go, and all hosts would have to hear of it.
 */
export const OVERTAKE_PERIOD_MS = 2000;

export interface OwnModules {
  readonly node: NodeId;
  readonly hasher: Hasher;
  readonly signer: Signer;
}

export interface OwnChange {
  readonly document: NetworkDocument;
  /** What goes out by gossip; `document` is what goes to disk and to who asks. */
  readonly delta: NetworkDelta;
}

/**
 * The next version of this host's document on a network.
 * @throws FULL at the bridge's last port.
 */
export function changeOwn(
  modules: OwnModules,
  network: NetworkId,
  held: NetworkDocument | undefined,
  put: readonly Endpoint[],
  remove: readonly EndpointId[],
): OwnChange {
  const endpoints = changeEndpoints(held?.endpoints ?? [], put, remove);
  if (endpoints.length > BOUNDS.endpointsPerHostAndNetwork)
    throw new OverlayError({
      code: "FULL",
      message: `this host has ${BOUNDS.endpointsPerHostAndNetwork} containers on the network, as many as a bridge has ports`,
      next: "start the container on another host, or on another network",
    });
  const version: Version = {
    incarnation: held?.version.incarnation ?? 1,
    seq: (held?.version.seq ?? 0) + 1,
  };
  const document = sign(modules, network, version, endpoints);
  const { node, signature } = document;
  const hash = endpointsHash(modules.hasher, endpoints);
  const previousSeq = held?.version.seq ?? 0;
  return {
    document,
    delta: {
      network,
      node,
      version,
      previousSeq,
      put: [...put],
      remove: [...remove],
      hash,
      signature,
    },
  };
}

/**
 * A document of our own came back that we did not write last: a newer one, or one of the same
 * version with other content. Our disk is old, or the machine was restored. What is true is what
 * runs here now, said again under the next incarnation. Undefined: there is nothing to overtake.
 */
export function overtake(
  modules: OwnModules,
  held: NetworkDocument | undefined,
  met: NetworkDocument,
): OwnChange | undefined {
  const { hasher } = modules;
  const hashOf = (document: NetworkDocument): Uint8Array => documentHash(hasher, document);
  if (!isNews({ version: met.version, hash: hashOf(met) }, held, hashOf)) return undefined;
  const version = { incarnation: met.version.incarnation + 1, seq: 1 };
  const document = sign(modules, met.network, version, held?.endpoints ?? []);
  return { document, delta: announce(document, hasher) };
}

/** A delta that says only that there is a new document: receivers see a gap and fetch it whole. */
function announce(document: NetworkDocument, hasher: Hasher): NetworkDelta {
  const { network, node, version, signature } = document;
  const hash = documentHash(hasher, document);
  return { network, node, version, previousSeq: 0, put: [], remove: [], hash, signature };
}

function sign(
  { node, hasher, signer }: OwnModules,
  network: NetworkId,
  version: Version,
  endpoints: Endpoint[],
): NetworkDocument {
  const hash = endpointsHash(hasher, endpoints);
  const signature = signer.sign(networkSigningBytes(network, node, version, hash));
  return { network, node, version, endpoints, signature };
}
