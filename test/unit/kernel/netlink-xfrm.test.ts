import { describe, expect, test } from "vitest";
import { PairKey } from "../../../agent/core/keys/pair-key.ts";
import { classPolicies } from "../../../agent/encryption/ipsec/policies.ts";
import { encodeFrame, decodeFrames } from "../../../agent/kernel/netlink/codec.ts";
import type { Request } from "../../../agent/kernel/netlink/socket.ts";
import {
  decodePolicy,
  decodeSa,
  deletePolicy,
  deleteSa,
  lossOf,
  newSa,
  putPolicy,
} from "../../../agent/kernel/netlink/xfrm.ts";
import { Ip } from "../../../shared/ip.ts";

const key = new PairKey(Uint8Array.from({ length: 36 }, (_, i) => i));
const sa = {
  source: Ip.parse("198.51.100.2"),
  destination: Ip.parse("198.51.100.1"),
  spi: 0x01020304,
};
const sa6 = { source: Ip.parse("2001:db8::2"), destination: Ip.parse("2001:db8::1"), spi: 256 };

const payload = ({ parts }: Request): Buffer => Buffer.concat(parts);
const back = (request: Request) => {
  const frame = encodeFrame(request.type, request.flags, 1, ...request.parts);
  return decodeFrames(frame)[0]!;
};
const zeros = (bytes: number): string => "00".repeat(bytes);

describe("messages of NETLINK_XFRM, as linux/xfrm.h lays them out", () => {
  test("an SA: selector, ids, limits, reqid, transport mode, ESN, and its attributes", () => {
    const request = newSa(sa, 7950, key);
    expect(request.type).toBe(0x10);
    const said = payload(request).toString("hex");
    const selector = [
      `c6336401${zeros(12)}`,
      `c6336402${zeros(12)}`,
      "1f0effff", // port 7950, all bits of it
      "00000000",
      "0200",
      "20",
      "20",
      "11",
      zeros(11),
    ].join("");
    const id = [`c6336401${zeros(12)}`, "01020304", "32", "000000"].join("");
    const limits = "ff".repeat(32) + zeros(32);
    const info = [
      selector,
      id,
      `c6336402${zeros(12)}`,
      limits,
      zeros(32),
      zeros(12),
      "00000000",
      "796c766f", // reqid
      "0200",
      "00", // transport
      "00", // the window of ESN is in its attribute
      "80", // ESN
      zeros(7),
    ].join("");
    expect(said.slice(0, info.length)).toBe(info);
    const aead = said.slice(info.length, info.length + 2 * (4 + 64 + 8 + 36));
    expect(aead).toBe(
      `70001200${Buffer.from("rfc4106(gcm(aes))").toString("hex")}${zeros(47)}` +
        `2001000080000000${Buffer.from(key.reveal()).toString("hex")}`,
    );
    const esn = said.slice(info.length + aead.length);
    // 128 words are 4,096 packets.
    expect(esn).toBe(`1c02170080000000${zeros(16)}00100000${zeros(512)}`);
  });

  test.each([sa, sa6])("an SA comes back as it went in, without its key", (name) => {
    expect(decodeSa(back(newSa(name, 7950, key)))).toEqual({ ...name, packets: 0, bytes: 0 });
  });

  test("another's SA, and what the kernel keeps while it asks for a key, are none of ours", () => {
    const message = back(newSa(sa, 7950, key));
    const asking = back(newSa({ ...sa, spi: 0 }, 7950, key));
    message.payload.writeUInt32LE(7, 208);
    expect([decodeSa(message), decodeSa(asking)]).toEqual([undefined, undefined]);
  });

  test("the id of an SA that goes, also as the kernel tells of it", () => {
    expect(payload(deleteSa(sa)).toString("hex")).toBe(
      `c6336401${zeros(12)}01020304020032${zeros(1)}`,
    );
    expect(lossOf(back(deleteSa(sa6)))).toEqual({
      of: "associations",
      destination: sa6.destination,
      spi: 256,
    });
  });

  test.each([Ip.parse("198.51.100.1"), Ip.parse("2001:db8::1")])(
    "policies of %s: six, each with ends of its own, and each comes back as it went in",
    (local) => {
      const policies = classPolicies(local);
      expect(policies.length).toBe(6);
      for (const policy of policies) {
        expect(decodePolicy(back(putPolicy(policy, 7950)), 7950)).toEqual(policy);
        expect(decodePolicy(back(putPolicy(policy, 7950)), 7949)).toBeUndefined();
      }
      // The kernel keeps one a selector and direction.
      const selectors = policies.map((policy) =>
        payload(deletePolicy(policy, 7950)).toString("hex"),
      );
      expect(new Set(selectors).size).toBe(6);
    },
  );

  test("a policy whose template asks for less than ESP of ours is not ours", () => {
    const policy = classPolicies(sa.destination).find(({ action }) => action === "require")!;
    for (const [at, value] of [
      [168 + 4 + 44, 9], // reqid
      [168 + 4 + 50, 1], // optional
    ] as const) {
      const message = back(putPolicy(policy, 7950));
      message.payload.writeUInt8(value, at);
      expect(decodePolicy(message, 7950)).toBeUndefined();
    }
  });
});
