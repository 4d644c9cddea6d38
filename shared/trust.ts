import { CompactSign, compactVerify, importJWK, type CryptoKey } from "jose";
import { z } from "zod";
import { toBase64Url } from "./base64url.ts";
import {
  ClusterState,
  NodeClaim,
  type SignedNodeClaim,
  type SignedState,
} from "./cluster-state.ts";
import { OverlayError } from "./errors.ts";
import { ClusterId, NodeId } from "./ids.ts";
import { publicKeyOf } from "./node-id.ts";
import { generationOf, MAX_GENERATION } from "./revision.ts";
import { StateHead } from "./state/head.ts";

/**
 * The chain of trust: the root key (kept offline) signs controllers' certificates, a controller
 * signs the cluster state and each node's claim. All are compact JWS (RFC 7515) with EdDSA over
 * Ed25519 (RFC 8037), each with a `typ` of its own: a signature made for one is none for another.
 */
const Certificate = z.object({
  cluster: ClusterId,
  controller: NodeId,
  /** Which revisions it may sign (shared/revision.ts); raised when another controller takes over. */
  generation: z.number().int().min(0).max(MAX_GENERATION).default(0),
});
export type Certificate = z.infer<typeof Certificate>;

type Kind = "overlay-ts/controller" | "overlay-ts/state" | "overlay-ts/head" | "overlay-ts/claim";

/** An Ed25519 key pair: 32-byte seed and 32-byte public key. */
export interface KeyPair {
  readonly seed: Uint8Array;
  readonly publicKey: Uint8Array;
}

export function signCertificate(
  root: KeyPair,
  certificate: z.input<typeof Certificate>,
): Promise<string> {
  return sign("overlay-ts/controller", root, certificate);
}

export async function signState(
  controller: KeyPair,
  controllerCertificate: string,
  state: ClusterState,
): Promise<SignedState> {
  return { jws: await sign("overlay-ts/state", controller, state), controllerCertificate };
}

/** @returns the head's compact JWS; the controller's certificate stands beside it wherever it is shown. */
export function signHead(controller: KeyPair, head: StateHead): Promise<string> {
  return sign("overlay-ts/head", controller, head);
}

export async function signClaim(
  controller: KeyPair,
  controllerCertificate: string,
  claim: NodeClaim,
): Promise<SignedNodeClaim> {
  return { jws: await sign("overlay-ts/claim", controller, claim), controllerCertificate };
}

/** @throws UNAUTHENTICATED: which link of the chain does not hold. */
export function verifyState(rootKey: Uint8Array, signed: SignedState): Promise<ClusterState> {
  return verifyOfController("overlay-ts/state", rootKey, signed, ClusterState);
}

/** @throws UNAUTHENTICATED. Whether objects are those of the head is asked of its root. */
export function verifyHead(
  rootKey: Uint8Array,
  signed: Pick<SignedState, "jws" | "controllerCertificate">,
): Promise<StateHead> {
  return verifyOfController("overlay-ts/head", rootKey, signed, StateHead);
}

/** @throws UNAUTHENTICATED. Whether the node is (still) admitted is asked of the state. */
export function verifyClaim(rootKey: Uint8Array, signed: SignedNodeClaim): Promise<NodeClaim> {
  return verifyOfController("overlay-ts/claim", rootKey, signed, NodeClaim);
}

export function verifyCertificate(rootKey: Uint8Array, certificate: string): Promise<Certificate> {
  return verify("overlay-ts/controller", rootKey, certificate, Certificate);
}

/** By a controller of this cluster, of a revision that it may sign. */
async function verifyOfController<T extends { cluster: ClusterId; revision: number }>(
  typ: Kind,
  rootKey: Uint8Array,
  { jws, controllerCertificate }: { jws: string; controllerCertificate: string },
  schema: z.ZodType<T>,
): Promise<T> {
  const { controller, cluster, generation } = await verifyCertificate(
    rootKey,
    controllerCertificate,
  );
  const signed = await verify(typ, publicKeyOf(controller), jws, schema);
  if (signed.cluster !== cluster)
    throw refused(`it is of cluster ${signed.cluster}, not ${cluster}`);
  if (generationOf(signed.revision) !== generation)
    throw refused(
      `a controller of generation ${generation} cannot sign revision ${signed.revision}`,
    );
  return signed;
}

async function sign(typ: Kind, key: KeyPair, payload: unknown): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify(payload));
  return new CompactSign(bytes)
    .setProtectedHeader({ alg: "EdDSA", typ })
    .sign(await keyOf(key.publicKey, key.seed));
}

async function verify<T>(
  typ: Kind,
  publicKey: Uint8Array,
  jws: string,
  schema: z.ZodType<T>,
): Promise<T> {
  let json: unknown;
  try {
    const key = await keyOf(publicKey);
    const { payload, protectedHeader } = await compactVerify(jws, key, { algorithms: ["EdDSA"] });
    if (protectedHeader.typ !== typ) throw refused(`it is a ${protectedHeader.typ}, not a ${typ}`);
    json = JSON.parse(new TextDecoder().decode(payload));
  } catch (error) {
    if (error instanceof OverlayError) throw error;
    throw refused(`the signature of the ${typ} does not hold`, error);
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) throw refused(`${typ}: ${z.prettifyError(parsed.error)}`, parsed.error);
  return parsed.data;
}

function keyOf(publicKey: Uint8Array, seed?: Uint8Array): Promise<CryptoKey | Uint8Array> {
  const x = toBase64Url(publicKey);
  const d = seed === undefined ? {} : { d: toBase64Url(seed) };
  return importJWK({ kty: "OKP", crv: "Ed25519", x, ...d }, "EdDSA");
}

function refused(why: string, cause?: unknown): OverlayError {
  return new OverlayError(
    {
      code: "UNAUTHENTICATED",
      message: `not signed by this cluster: ${why}`,
      next: "check that the token or the peer is of the cluster you mean",
    },
    { cause },
  );
}
