import type { Stream, StreamMuxer } from "@libp2p/interface";
import { mockMuxer, multiaddrConnectionPair } from "@libp2p/utils";
import { frame, KIND } from "../../../agent/replication/gossip/request-frame.ts";
import { serveRequests } from "../../../agent/replication/gossip/request-stream.ts";
import { TokenBucket } from "../../../shared/token-bucket.ts";
import { recordings } from "../../fixtures/recordings.ts";
import { hold, type Target } from "../target.ts";

/** Bytes of a stream of requests, as they come from a member: each frame is answered, or the stream ends. */
export async function syncStream(): Promise<Target> {
  const frames = Object.values((await recordings()).requestFrame);
  const requests = [1, 200].map((length) => frame(length, KIND.request, new Uint8Array(length)));
  const [outboundConnection, inboundConnection] = multiaddrConnectionPair({ delay: 0 });
  const near = mockMuxer().createStreamMuxer(outboundConnection);
  const far = mockMuxer().createStreamMuxer(inboundConnection);
  return {
    decoder: "serveRequests",
    recorded: [Buffer.concat(frames.map(prefixed)), Buffer.concat(requests.map(prefixed))],
    feed: async (input) => {
      const [outbound, inbound] = await opened(near, far);
      let answered = 0;
      let longest = 0;
      const answer = async (body: Uint8Array): Promise<Uint8Array> => {
        answered++;
        longest = Math.max(longest, body.length);
        return body;
      };
      const served = serveRequests(inbound, answer, new TokenBucket(1e9, 1e9, 0));
      // What comes back is read by nobody: it must not matter.
      if (input.length > 0) outbound.send(input);
      await outbound.close({ signal: AbortSignal.timeout(1000) }).catch(() => {});
      outbound.abort(new Error("fed"));
      await served;
      hold(longest <= input.length, "a body longer than what came");
      return answered === 0 ? "no request" : undefined;
    },
  };
}

async function opened(near: StreamMuxer, far: StreamMuxer): Promise<[Stream, Stream]> {
  const coming = new Promise<Stream>((resolve) =>
    far.addEventListener("stream", ({ detail }) => resolve(detail), { once: true }),
  );
  return [await near.createStream(), await coming];
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
