import { noise, type NoiseComponents } from "@chainsafe/libp2p-noise";
import type {
  ConnectionEncrypter,
  MessageStream,
  SecureConnectionOptions,
  SecuredConnection,
} from "@libp2p/interface";
import { lpStream } from "@libp2p/utils";
import { SignedNodeClaim } from "../../../shared/cluster-state.ts";
import { decodeCbor, encodeCbor } from "../../../shared/codec.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { NodeId } from "../../../shared/ids.ts";
import type { AdmissionRules, Refusal } from "./admission-rules.ts";
import { DEFAULT_DIAL_TIMEOUTS } from "./dialling.ts";

const MAX_CLAIM_BYTES = 64 * 1024;

export interface AdmittedNoiseOptions {
  /** Our own, shown to every peer. */
  readonly claim: SignedNodeClaim;
  readonly rules: AdmissionRules;
  readonly refused: (why: Refusal | "noClaim") => void;
  /** Of the wire; absent: 1. */
  readonly version?: number;
}

/**
 * Noise, and then, before the connection is upgraded to anything that could carry a stream, both
 * sides show the controller's signed word for them. A connection gater sees only a peer id: too
 * late for a host that we have not heard of yet, and too early for one we have.
 */
export function admittedNoise(options: AdmittedNoiseOptions) {
  return (components: NoiseComponents): ConnectionEncrypter => {
    const inner = noise()(components);
    return {
      // Another name than Noise's: who does not speak this is told so by negotiation.
      protocol: `/overlay-ts/noise/${options.version ?? 1}`,
      secureInbound: async (connection, secureOptions) =>
        admit(await inner.secureInbound(connection, secureOptions), options, secureOptions),
      secureOutbound: async (connection, secureOptions) =>
        admit(await inner.secureOutbound(connection, secureOptions), options, secureOptions),
    };
  };
}

async function admit(
  secured: SecuredConnection,
  { claim, rules, refused }: AdmittedNoiseOptions,
  options: SecureConnectionOptions | undefined,
): Promise<SecuredConnection> {
  const peer = NodeId.parse(secured.remotePeer.toString());
  const shown = await exchange(secured.connection, claim, options?.signal).catch(
    (error: unknown) => error as Error,
  );
  const why =
    shown instanceof Error ? ("noClaim" as const) : await rules.refusal(peer, shown.claim);
  if (why !== undefined) {
    refused(why);
    const error = new OverlayError({
      code: "UNAUTHENTICATED",
      message: `peer ${peer} is refused: ${why}`,
    });
    secured.connection.abort(error);
    throw error;
  }
  return secured;
}

async function exchange(
  connection: MessageStream,
  own: SignedNodeClaim,
  outer: AbortSignal | undefined,
): Promise<{ claim: SignedNodeClaim }> {
  const timeout = AbortSignal.timeout(DEFAULT_DIAL_TIMEOUTS.mostMs);
  const signal = outer === undefined ? timeout : AbortSignal.any([outer, timeout]);
  const framed = lpStream(connection, { maxDataLength: MAX_CLAIM_BYTES });
  await framed.write(encodeCbor(own), { signal });
  const bytes = (await framed.read({ signal })).subarray();
  framed.unwrap();
  return { claim: SignedNodeClaim.parse(decodeCbor(bytes, MAX_CLAIM_BYTES)) };
}
