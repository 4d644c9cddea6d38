import { SERVES_VIPS } from "../../agent/core/balancing/serves-vips.ts";
import { FOLLOWS_CHANGES } from "../../agent/core/tables/following.ts";
import type { Replication } from "../../agent/replication/replication.ts";
import { CLUSTER_TOPIC, FOR_CLUSTER } from "../../agent/replication/request-kinds.ts";
import { BOUNDS } from "../../shared/bounds.ts";
import { decodeCbor, encodeCbor } from "../../shared/codec.ts";

/** What 0.1.0 makes of this version's words: nothing of a kind that it does not know, and fields that it does not know are not there. */

const NEW_KINDS: ReadonlySet<unknown> = new Set(["change"]);

export function isUnderstood(topic: string, bytes: Uint8Array): boolean {
  if (topic !== CLUSTER_TOPIC) return true;
  try {
    const message = decodeCbor(bytes, BOUNDS.gossipMessageBytes) as { kind?: unknown };
    return !NEW_KINDS.has(message.kind);
  } catch {
    return true;
  }
}

/** As it asks itself. */
export function asked(bytes: Uint8Array): Uint8Array {
  if (bytes[0] !== FOR_CLUSTER) return bytes;
  const {
    objects: _,
    root: __,
    ...known
  } = decodeCbor(bytes.subarray(1), BOUNDS.syncMessageBytes) as Record<string, unknown>;
  return Uint8Array.of(FOR_CLUSTER, ...encodeCbor(known));
}

const LATER: ReadonlySet<string> = new Set([FOLLOWS_CHANGES, SERVES_VIPS]);

/** Of itself it says that it takes no changes, and knows no virtual addresses. */
export function saysLess(replication: Replication): void {
  const say = replication.say.bind(replication);
  replication.say = (facts) =>
    say({
      ...facts,
      capabilities: facts.capabilities.filter((capability) => !LATER.has(capability)),
    });
}
