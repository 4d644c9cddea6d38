import { expect, test } from "vitest";
import { ed25519Signer, ed25519Verifier, sha256 } from "../../../shared/node/system.ts";
import { nodeIdOf } from "../../../shared/node-id.ts";
import { hex } from "../../../shared/codec.ts";

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "hex"));

// RFC 8032 section 7.1, test 2.
const seed = bytes("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
const publicKey = bytes("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
const signature =
  "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

test("Ed25519 signs as RFC 8032 does", () => {
  expect(hex(ed25519Signer(seed).sign(Uint8Array.of(0x72)))).toBe(signature);
});

test("Ed25519 takes that signature, and no other message, signature or key", () => {
  const verifier = ed25519Verifier();
  const [owner, other] = [nodeIdOf(publicKey), nodeIdOf(publicKey.toReversed())];
  const message = Uint8Array.of(0x72);
  expect(verifier.verify(owner, message, bytes(signature))).toBe(true);
  expect(verifier.verify(owner, Uint8Array.of(0x73), bytes(signature))).toBe(false);
  expect(verifier.verify(owner, message, bytes(signature).slice(1))).toBe(false);
  expect(verifier.verify(other, message, bytes(signature))).toBe(false);
  expect(verifier.verify("broken", message, bytes(signature))).toBe(false);
});

test("SHA-256 of parts is that of the whole", () => {
  const whole = sha256.sha256(Uint8Array.of(0x61, 0x62, 0x63));
  expect(hex(whole)).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  expect(sha256.sha256(Uint8Array.of(0x61), Uint8Array.of(0x62, 0x63))).toEqual(whole);
});
