import type { NetworkId, NodeId } from "../../shared/ids.ts";
import type { Mesh } from "./gossip/port.ts";

/** The mesh carries one kind of request; its first byte says which part of the host it is for. */
export const FOR_CLUSTER = 0;
export const FOR_NETWORK = 1;
export const FOR_KEYS = 2;

/** Of host documents and the controller's state. */
export const CLUSTER_TOPIC = "overlay-ts/cluster";

const NETWORK_TOPIC = "overlay-ts/network/";

export function topicOf(network: NetworkId): string {
  return NETWORK_TOPIC + network;
}

export function networkOf(topic: string): NetworkId {
  return topic.slice(NETWORK_TOPIC.length) as NetworkId;
}

export function requestFor(part: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(body.length + 1);
  bytes[0] = part;
  bytes.set(body, 1);
  return bytes;
}

/** @throws UNREACHABLE or TIMEOUT */
export function askForKeys(
  mesh: Pick<Mesh, "request">,
  to: NodeId,
  body: Uint8Array,
  timeoutMs: number,
): Promise<Uint8Array> {
  return mesh.request(to, requestFor(FOR_KEYS, body), timeoutMs);
}
