import type { KeyChannel } from "../../agent/encryption/ipsec/port.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";

type Answer = (from: NodeId, bytes: Uint8Array) => Promise<Uint8Array>;

/** Hosts that ask each other within one process; one can be cut off. */
export class MemoryKeyChannels {
  readonly #hosts = new Map<NodeId, Answer>();
  readonly cut = new Set<NodeId>();
  requests = 0;
  bytes = 0;

  of(node: NodeId): KeyChannel {
    return {
      serve: (answer) => this.#hosts.set(node, answer),
      request: async (to, bytes) => {
        const answer = this.#hosts.get(to);
        if (answer === undefined || this.cut.has(to) || this.cut.has(node))
          throw new OverlayError({ code: "UNREACHABLE", message: `${to} does not answer` });
        this.requests++;
        const said = await answer(node, bytes);
        this.bytes += bytes.length + said.length;
        return said;
      },
    };
  }
}
