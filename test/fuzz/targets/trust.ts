import { decode } from "cborg";
import { AdmissionRules } from "../../../agent/replication/gossip/admission-rules.ts";
import { toBase64Url } from "../../../shared/base64url.ts";
import { SignedNodeClaim, SignedState } from "../../../shared/cluster-state.ts";
import { decodeCbor, encodeCbor } from "../../../shared/codec.ts";
import { ed25519Signer } from "../../../shared/node/system.ts";
import { verifyState } from "../../../shared/trust.ts";
import { recordings } from "../../fixtures/recordings.ts";
import { type SignedCluster, signedCluster } from "../../support/signed-cluster.ts";
import { hold, refusalOf, type Target } from "../target.ts";

const MAX_BYTES = 4 * 1024 * 1024;
const encoder = new TextEncoder();

/** What a peer shows before a connection of the mesh is upgraded: only a signed claim is welcome. */
export async function claim(): Promise<Target> {
  const cluster = await signedCluster();
  const [first] = cluster.hosts;
  const rules = new AdmissionRules(cluster.root.publicKey);
  const { revision, nodes, revoked } = cluster.state;
  rules.set({ revision, nodes: nodes.map(({ id }) => id), revoked });
  const payloads = [{ cluster: cluster.state.cluster, revision, node: nodes[0] }];
  return {
    decoder: "SignedNodeClaim, AdmissionRules.refusal",
    recorded: [
      ...Object.values((await recordings()).claim),
      ...payloads.map((payload) => encoder.encode(JSON.stringify(payload))),
    ],
    form: "json",
    dress: (input) => dressed(cluster, "overlay-ts/claim", input),
    feed: async (input) => {
      const parsed = parsedBy(SignedNodeClaim, input);
      if (typeof parsed === "string") return parsed;
      return rules.refusal(first.node, parsed);
    },
  };
}

/** The controller's state: whatever is in it, taken means that the controller signed it, and it is whole. */
export async function signedState(): Promise<Target> {
  const cluster = await signedCluster();
  return {
    decoder: "SignedState, verifyState",
    recorded: [encodeCbor(cluster.signed), encoder.encode(JSON.stringify(cluster.state))],
    form: "json",
    dress: (input) => dressed(cluster, "overlay-ts/state", input),
    feed: async (input) => {
      const parsed = parsedBy(SignedState, input);
      if (typeof parsed === "string") return parsed;
      try {
        const state = await verifyState(cluster.root.publicKey, parsed);
        hold(state.cluster === cluster.state.cluster, "a state of another cluster");
        return undefined;
      } catch (error) {
        return refusalOf(error);
      }
    },
  };
}

function parsedBy<T>(
  schema: { safeParse(value: unknown): { success: true; data: T } | { success: false } },
  input: Uint8Array,
): T | string {
  try {
    const parsed = schema.safeParse(decodeCbor(input, MAX_BYTES));
    return parsed.success ? parsed.data : "INVALID";
  } catch (error) {
    return refusalOf(error);
  }
}

/** Signed by the controller, whatever it says; what is a signed message already stays as it is. */
function dressed(
  { controller, certificate }: SignedCluster,
  typ: string,
  input: Uint8Array,
): Uint8Array {
  try {
    decode(input);
    return input;
  } catch {
    const head = toBase64Url(encoder.encode(JSON.stringify({ alg: "EdDSA", typ })));
    const signing = `${head}.${toBase64Url(input)}`;
    const signature = ed25519Signer(controller.seed).sign(encoder.encode(signing));
    const jws = `${signing}.${toBase64Url(signature)}`;
    return encodeCbor({ jws, controllerCertificate: certificate });
  }
}
