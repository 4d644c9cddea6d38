import { decode, encode } from "cborg";
import { OverlayError } from "./errors.ts";

/**
 * Deterministic CBOR (RFC 8949 section 4.2): equal values have equal bytes on every node, so the
 * bytes can be hashed and signed. Used for gossip, sync and documents on disk.
 * Decoding is strict: no indefinite lengths, no tags, no duplicate keys, no trailing bytes.
 */
export function encodeCbor(value: unknown): Uint8Array {
  return encode(value, { ignoreUndefinedProperties: true });
}

/** @throws INVALID with the decoder's reason; TOO_LARGE beyond `maxBytes`. */
export function decodeCbor(bytes: Uint8Array, maxBytes: number): unknown {
  if (bytes.length > maxBytes)
    throw new OverlayError({
      code: "TOO_LARGE",
      message: `${bytes.length} bytes where at most ${maxBytes} are taken`,
    });
  try {
    return decode(bytes, {
      strict: true,
      allowIndefinite: false,
      allowUndefined: false,
      rejectDuplicateMapKeys: true,
      useMaps: false,
    });
  } catch (error) {
    throw new OverlayError({ code: "INVALID", message: "not canonical CBOR" }, { cause: error });
  }
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a === b) return true;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
