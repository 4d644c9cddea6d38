import type { ClusterState, SignedNodeClaim, SignedState } from "../../shared/cluster-state.ts";
import type { Endpoint, HostDocument, NetworkDocument } from "../../shared/documents.ts";
import { hostSigningBytes, networkSigningBytes, endpointsHash } from "../../shared/documents.ts";
import { type Identity, identityFromSeed } from "../../shared/node/identity.ts";
import { ed25519Signer, sha256 } from "../../shared/node/system.ts";
import { toBase64Url } from "../../shared/base64url.ts";
import { sealKeyPair } from "../../shared/sealed-box.ts";
import { signCertificate, signClaim, signState } from "../../shared/trust.ts";
import { app, clusterState, endpoint, node } from "./cluster.ts";
import { seededRandom } from "./seeded-random.ts";

/** `cluster.ts` with real keys, the same each time: what hosts write and send, signed as they sign it. */
export interface SignedCluster {
  readonly root: Identity;
  readonly controller: Identity;
  readonly certificate: string;
  /** h1, h2, h3; the controller is h1's. */
  readonly hosts: readonly [Identity, Identity, Identity];
  readonly state: ClusterState;
  readonly signed: SignedState;
  readonly claims: readonly SignedNodeClaim[];
  /** What h1, h2 and h3 say of themselves. */
  readonly documents: readonly HostDocument[];
  /** Two containers each on `app`. */
  readonly networks: readonly NetworkDocument[];
}

export async function signedCluster(): Promise<SignedCluster> {
  const random = seededRandom(1);
  const identity = (): Identity => identityFromSeed(random.bytes(32));
  const [root, controller] = [identity(), identity()];
  const hosts = [identity(), identity(), identity()] as const;
  const state = stateOf(controller, hosts);
  const certificate = await signCertificate(root, {
    cluster: state.cluster,
    controller: controller.node,
  });
  const claimOf = (k: number): Promise<SignedNodeClaim> => {
    const { cluster, revision, nodes } = state;
    return signClaim(controller, certificate, { cluster, revision, node: nodes[k]! });
  };
  return {
    root,
    controller,
    certificate,
    hosts: [...hosts],
    state,
    signed: await signState(controller, certificate, state),
    claims: await Promise.all([0, 1, 2].map(claimOf)),
    documents: hosts.map((host, i) => signedHost(host, i + 1)),
    networks: hosts.map((host, i) =>
      signedNetwork(host, 1, [endpoint(i + 1, 5), endpoint(i + 1, 6)]),
    ),
  };
}

function stateOf(controller: Identity, hosts: readonly Identity[]): ClusterState {
  const nodes = hosts.map((host, i) => ({
    ...node(i + 1),
    id: host.node,
    sealKey: toBase64Url(sealKeyPair(sha256, host.seed).publicKey),
  }));
  const made = clusterState(hosts.length);
  return {
    ...made,
    controller: { ...made.controller, node: hosts[0]!.node, peerId: controller.node },
    nodes,
    networks: [{ ...app, createdBy: hosts[0]!.node, labels: { "com.example": "yes" } }],
    blocks: made.blocks.map((block, i) => ({ ...block, node: nodes[i]!.id })),
  };
}

export function signedHost(host: Identity, k: number, seq = 1): HostDocument {
  const { vtep } = node(k);
  const body = {
    node: host.node,
    version: { incarnation: 1, seq },
    bootId: `boot-${k}`,
    vtep: { advertised: vtep, local: vtep },
    underlayMtuBytes: 1500,
    capabilities: ["wireguard"],
    hosting: [app.id],
    needs: [app.id],
  };
  return { ...body, signature: ed25519Signer(host.seed).sign(hostSigningBytes(body)) };
}

export function signedNetwork(
  host: Identity,
  seq: number,
  endpoints: readonly Endpoint[],
): NetworkDocument {
  const version = { incarnation: 1, seq };
  const hash = endpointsHash(sha256, endpoints);
  const message = networkSigningBytes(app.id, host.node, version, hash);
  const signature = ed25519Signer(host.seed).sign(message);
  return { network: app.id, node: host.node, version, endpoints: [...endpoints], signature };
}
