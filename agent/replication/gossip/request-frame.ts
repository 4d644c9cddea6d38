import { OverlayError } from "../../../shared/errors.ts";

/** A request or its answer on a stream: an id of four bytes, a kind, the body; its length stands before it. */
export const HEADER_BYTES = 5;
export const KIND = { request: 0, answer: 1, refused: 2 } as const;

export function frame(id: number, kind: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + body.length);
  new DataView(bytes.buffer).setUint32(0, id);
  bytes[4] = kind;
  bytes.set(body, HEADER_BYTES);
  return bytes;
}

/** @throws INVALID */
export function unframe(bytes: Uint8Array): { id: number; kind: number; body: Uint8Array } {
  if (bytes.length < HEADER_BYTES)
    throw new OverlayError({ code: "INVALID", message: "a frame without a header" });
  const id = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
  return { id, kind: bytes[4] ?? 0, body: bytes.slice(HEADER_BYTES) };
}
