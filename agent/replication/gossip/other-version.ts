import type {
  ConnectionEncrypter,
  MessageStream,
  SecureConnectionOptions,
} from "@libp2p/interface";
import { lpStream } from "@libp2p/utils";
import { NodeId } from "../../../shared/ids.ts";
import {
  decodeVersions,
  encodeVersions,
  noCommonVersion,
  VERSIONS_BYTES,
  VERSIONS_PROTOCOL,
} from "../../../shared/wire-version.ts";

const TIMEOUT_MS = 5000;

/**
 * Offered last, in place of Noise: who comes to this shares no version with us. Both sides say what they
 * speak, in clear, and the connection ends. Nobody is proven by it: it is for people to read.
 *
 * @param met the node only where we have dialled.
 */
export function otherVersion(
  ours: readonly number[],
  met: (node: NodeId | undefined, theirs: readonly number[]) => void,
) {
  const end = async (
    connection: MessageStream,
    options: SecureConnectionOptions | undefined,
  ): Promise<never> => {
    const signal = AbortSignal.any([
      AbortSignal.timeout(TIMEOUT_MS),
      ...(options?.signal === undefined ? [] : [options.signal]),
    ]);
    const framed = lpStream(connection, { maxDataLength: VERSIONS_BYTES });
    await framed.write(encodeVersions(ours), { signal });
    const theirs = decodeVersions((await framed.read({ signal })).subarray());
    const node = options?.remotePeer && NodeId.parse(options.remotePeer.toString());
    met(node, theirs);
    throw noCommonVersion(node ?? "the other host", theirs, ours);
  };
  return (): ConnectionEncrypter => ({
    protocol: VERSIONS_PROTOCOL,
    secureInbound: end,
    secureOutbound: end,
  });
}
