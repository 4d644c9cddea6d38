import { OverlayError } from "./errors.ts";
import { NodeId } from "./ids.ts";

/**
 * A node id is a libp2p peer id: base58 of an identity multihash (0x00, length 36) of the protobuf
 * `{Type: Ed25519, Data: key}` (libp2p specs, peer-ids.md). So the id is the key.
 */
const PREFIX = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20] as const;
const KEY_BYTES = 32;
const ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

export function nodeIdOf(publicKey: Uint8Array): NodeId {
  return NodeId.parse(base58([...PREFIX, ...publicKey]));
}

/** The 32 bytes of the Ed25519 key in a node id. @throws INVALID */
export function publicKeyOf(node: string): Uint8Array {
  const bytes = node.startsWith("1") ? fromBase58(node) : undefined;
  const wellFormed =
    bytes?.length === PREFIX.length + KEY_BYTES && PREFIX.every((byte, i) => bytes[i] === byte);
  if (bytes === undefined || !wellFormed)
    throw new OverlayError({ code: "INVALID", message: `not a node id: ${node}` });
  return bytes.slice(PREFIX.length);
}

/** The one leading zero byte is the leading `1`. */
function base58(bytes: readonly number[]): string {
  let value = bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
  let text = "";
  for (; value > 0n; value /= 58n) text = `${ALPHABET[Number(value % 58n)]}${text}`;
  return `1${text}`;
}

function fromBase58(text: string): Uint8Array | undefined {
  let value = 0n;
  for (const character of text) {
    const digit = ALPHABET.indexOf(character);
    if (digit < 0) return undefined;
    value = value * 58n + BigInt(digit);
  }
  const bytes: number[] = [];
  for (; value > 0n; value >>= 8n) bytes.unshift(Number(value & 0xffn));
  return Uint8Array.of(0, ...bytes);
}
