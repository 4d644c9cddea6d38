import { createPrivateKey, createPublicKey, type JsonWebKey } from "node:crypto";
import { chmodSync, existsSync, readFileSync } from "node:fs";
import { fromBase64Url, toBase64Url } from "../../../shared/base64url.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { writeSecret } from "../../../shared/node/files.ts";
import { systemRandom } from "../../../shared/node/system.ts";
import { WireguardKey } from "../../core/keys/wireguard.ts";
import { Secret } from "../secret.ts";

const KEY_BYTES = 32;
// RFC 8410: what stands before the 32 raw bytes of an X25519 key in PKCS #8.
const PKCS8_PREFIX = Buffer.from("302e020100300506032b656e04220420", "hex");

/**
 * The host's Curve25519 key: made on it, never sent anywhere, kept over restarts, mode 0600.
 * @throws INVALID when the file is damaged.
 */
export function hostWireguardKey(path: string): Secret {
  if (!existsSync(path)) keepWireguardKey(path, newWireguardKey());
  // Restored from a backup it may be others' to read.
  chmodSync(path, 0o600);
  const bytes = decode(readFileSync(path, "utf8").trim());
  if (bytes?.length === KEY_BYTES) return new Secret(bytes);
  throw new OverlayError({
    code: "INVALID",
    message: `${path} holds no WireGuard key`,
    next: "restore it from a backup, or delete it: the host gets a new key, and tells the others",
  });
}

export function newWireguardKey(): Secret {
  return new Secret(systemRandom.bytes(KEY_BYTES));
}

/** In the place of the one before. */
export function keepWireguardKey(path: string, key: Secret): void {
  writeSecret(path, `${toBase64Url(key.reveal())}\n`);
}

/** What the host tells the others. */
export function wireguardPublicKey(privateKey: Secret): WireguardKey {
  const der = Buffer.concat([PKCS8_PREFIX, privateKey.reveal()]);
  const key = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  const { x }: JsonWebKey = createPublicKey(key).export({ format: "jwk" });
  return WireguardKey.parse(Buffer.from(x ?? "", "base64url").toString("base64"));
}

/** An error would quote what it could not read. */
function decode(text: string): Uint8Array | undefined {
  try {
    return fromBase64Url(text);
  } catch {
    return undefined;
  }
}
