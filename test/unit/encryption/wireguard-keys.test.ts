import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Secret } from "../../../agent/encryption/secret.ts";
import { hostWireguardKey, wireguardPublicKey } from "../../../agent/encryption/wireguard/keys.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "ovt-keys-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

test("the public half is that of RFC 7748, section 6.1", () => {
  const bob = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
  const publicKey = wireguardPublicKey(new Secret(Buffer.from(bob, "hex")));
  expect(Buffer.from(publicKey, "base64").toString("hex")).toBe(
    "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
  );
});

test("the key is made once, kept, and nobody else's to read", () => {
  const path = join(directory, "wireguard.key");
  const first = wireguardPublicKey(hostWireguardKey(path));
  expect(statSync(path).mode & 0o777).toBe(0o600);
  chmodSync(path, 0o644);
  expect(wireguardPublicKey(hostWireguardKey(path))).toBe(first);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(wireguardPublicKey(hostWireguardKey(join(directory, "other.key")))).not.toBe(first);
});

test.each(["", "too-short", "not base64url at all, but long enough to be one!"])(
  "a damaged file is named, and not quoted: %j",
  (text) => {
    const path = join(directory, "wireguard.key");
    writeFileSync(path, text);
    expect(() => hostWireguardKey(path)).toThrow(/^[^\n]*wireguard\.key holds no WireGuard key$/);
    expect(readFileSync(path, "utf8")).toBe(text);
  },
);

test("a secret shows nothing of itself", () => {
  const secret = new Secret(Buffer.alloc(32, 0x5a));
  for (const said of [JSON.stringify({ secret }), inspect(secret, { depth: 9, showHidden: true })])
    expect(said).not.toMatch(/5a|90|WlpaW/i);
});
