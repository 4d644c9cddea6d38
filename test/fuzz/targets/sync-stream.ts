import { streamPair } from "@libp2p/utils";
import { frame, KIND } from "../../../agent/gossip/request-frame.ts";
import { serveRequests } from "../../../agent/gossip/request-stream.ts";
import { TokenBucket } from "../../../shared/token-bucket.ts";
import { recordings } from "../../fixtures/recordings.ts";
import { hold, type Target } from "../target.ts";

/** Bytes of a stream of requests, as they come from a member: each frame is answered, or the stream ends. */
export async function syncStream(): Promise<Target> {
  const frames = Object.values((await recordings()).requestFrame);
  const requests = [1, 200].map((length) => frame(length, KIND.request, new Uint8Array(length)));
  return {
    decoder: "serveRequests",
    recorded: [Buffer.concat(frames.map(prefixed)), Buffer.concat(requests.map(prefixed))],
    feed: async (input) => {
      const [outbound, inbound] = await streamPair({ delay: 0 });
      let answered = 0;
      const served = serveRequests(
        inbound,
        async (body) => {
          answered++;
          hold(body.length <= input.length, "a body longer than what came");
          return body;
        },
        new TokenBucket(1e9, 1e9, 0),
      );
      // What comes back is read by nobody: it must not matter.
      if (input.length > 0) outbound.send(input);
      await outbound.close({ signal: AbortSignal.timeout(1000) }).catch(() => {});
      outbound.abort(new Error("fed"));
      await served;
      return answered === 0 ? "no request" : undefined;
    },
  };
}

/** Its length as an unsigned varint before it (libp2p's length prefix). */
function prefixed(bytes: Uint8Array): Uint8Array {
  const length: number[] = [];
  for (let left = bytes.length; ; left >>>= 7) {
    length.push(left > 127 ? (left & 127) | 128 : left);
    if (left <= 127) break;
  }
  return Buffer.concat([Uint8Array.from(length), bytes]);
}
