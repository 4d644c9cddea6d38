/** The mesh carries one kind of request; its first byte says which part of the host it is for. */
export const FOR_CLUSTER = 0;
export const FOR_NETWORK = 1;
export const FOR_KEYS = 2;

/** Of host documents and the controller's state. */
export const CLUSTER_TOPIC = "overlay-ts/cluster";

export function requestFor(part: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(body.length + 1);
  bytes[0] = part;
  bytes.set(body, 1);
  return bytes;
}
