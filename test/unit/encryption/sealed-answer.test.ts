import fc from "fast-check";
import { afterEach, describe, expect, test, vi } from "vitest";
import { MeshKeyChannel } from "../../../agent/encryption/ipsec/mesh-key-channel.ts";
import { AnswerKey, sealAnswer } from "../../../agent/encryption/ipsec/sealed-answer.ts";
import { nodeId } from "../../support/cluster.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

afterEach(() => {
  vi.useRealTimers();
});

describe("an answer that is sealed for its question", () => {
  test("is opened by who asked", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2048 }), (answer) => {
        const key = new AnswerKey();
        expect(new Uint8Array(key.open(sealAnswer(key.publicKey, answer)))).toEqual(answer);
      }),
    );
  });

  test("is opened by no other question, and never the same twice", async () => {
    vi.useFakeTimers();
    vi.resetModules();
    const { AnswerKey, sealAnswer } =
      await import("../../../agent/encryption/ipsec/sealed-answer.ts");
    const key = new AnswerKey();
    const sealed = sealAnswer(key.publicKey, bytes("a key"));
    vi.advanceTimersByTime(1001);
    // A second later the key that it was sealed to is made anew.
    const later = new AnswerKey();
    expect(later.publicKey).not.toEqual(key.publicKey);
    expect(() => later.open(sealed)).toThrow(/sealed to another question/);
    expect(sealAnswer(key.publicKey, bytes("a key"))).not.toEqual(sealed);
    expect(Buffer.from(sealed).includes("a key")).toBe(false);
  });

  test("is refused when anything of it was changed", () => {
    fc.assert(
      fc.property(fc.nat(84), fc.integer({ min: 1, max: 255 }), (at, by) => {
        const key = new AnswerKey();
        const sealed = Uint8Array.from(sealAnswer(key.publicKey, bytes("a key")));
        expect(sealed).toHaveLength(85);
        sealed[at]! ^= by;
        // The highest bit of a public key means nothing (RFC 7748, 5), but both public keys are in the key.
        expect(() => key.open(sealed)).toThrow(/sealed to another question/);
      }),
    );
  });

  test.each([[0], [31], [32], [64], [79]])("%i bytes are none", (length) => {
    expect(() => new AnswerKey().open(new Uint8Array(length))).toThrow(/sealed to another/);
  });

  test.each([
    ["short", new Uint8Array(31)],
    ["of small order, with which every secret is the same", new Uint8Array(32)],
  ])("a public key that is %s is refused", (_, publicKey) => {
    expect(() => sealAnswer(publicKey, bytes("a key"))).toThrow(/not an X25519 public key/);
  });
});

describe("questions about keys over the mesh", () => {
  test("are answered, and what goes over it does not show the answer", async () => {
    const seen: Uint8Array[] = [];
    const answering = new MeshKeyChannel(() => Promise.reject(new Error("nobody")));
    const asking = new MeshKeyChannel(async (_to, asked) => {
      const answer = await answering.asked(nodeId(1), asked);
      seen.push(asked, answer);
      return answer;
    });
    answering.serve(async (from, question) => {
      expect([from, new TextDecoder().decode(question)]).toEqual([nodeId(1), "a key?"]);
      return bytes("the secret key");
    });
    const answer = await asking.request(nodeId(2), bytes("a key?"), 100);
    expect(new TextDecoder().decode(answer)).toBe("the secret key");
    for (const each of seen) expect(Buffer.from(each).includes("secret")).toBe(false);
  });

  test("are refused by a host that has no part in the class, and when they are no question", async () => {
    const channel = new MeshKeyChannel(() => Promise.reject(new Error("nobody")));
    await expect(channel.asked(nodeId(1), new Uint8Array(40))).rejects.toThrow(/no IPsec keys/);
    channel.serve(async () => bytes("the secret key"));
    await expect(channel.asked(nodeId(1), new Uint8Array(3))).rejects.toThrow(/not an X25519/);
  });
});
