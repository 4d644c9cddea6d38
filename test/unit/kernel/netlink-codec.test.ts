import { describe, expect, test } from "vitest";
import {
  attr,
  decodeAttributes,
  decodeFrames,
  decodeText,
  encodeFrame,
  text,
  u16be,
  u32,
} from "../../../agent/kernel/netlink/codec.ts";
import { decodeNeighbour, putFdb } from "../../../agent/kernel/netlink/neighbour.ts";
import { Ip } from "../../../shared/ip.ts";
import { Mac } from "../../../shared/mac.ts";

describe("netlink", () => {
  test("a frame: length without padding, then type, flags, seq, port 0, payload to 4 bytes", () => {
    expect(encodeFrame(28, 0x505, 7, Buffer.from([1, 2, 3])).toString("hex")).toBe(
      ["13000000", "1c00", "0505", "07000000", "00000000", "01020300"].join(""),
    );
  });

  test("frames of one datagram come apart as they went in", () => {
    const datagram = Buffer.concat([
      encodeFrame(16, 0, 1, Buffer.from("odd")),
      encodeFrame(17, 0, 2),
    ]);
    expect(
      decodeFrames(datagram).map(({ type, seq, payload }) => [type, seq, payload.toString()]),
    ).toEqual([
      [16, 1, "odd"],
      [17, 2, ""],
    ]);
  });

  test("a frame longer than its datagram is a broken kernel, not a message", () => {
    const frame = encodeFrame(16, 0, 1, u32(5));
    expect(() => decodeFrames(frame.subarray(0, 18))).toThrow(/within its datagram/);
  });

  test("attributes: padded, nested, in the kernel's byte orders", () => {
    expect(attr(3, text("br0")).toString("hex")).toBe("0800030062723000");
    expect(attr(15, u16be(7948)).toString("hex")).toBe("06000f001f0c0000");
    const nest = decodeAttributes(attr(0x8012, attr(1, text("vxlan")), attr(2, u32(256))));
    const inner = decodeAttributes(nest.get(0x12)!);
    expect(decodeText(inner.get(1))).toBe("vxlan");
    expect(inner.get(2)?.readUInt32LE()).toBe(256);
  });

  test("the FDB message: NOARP|REACHABLE, SELF|MASTER|EXT_LEARNED, MAC and VTEP", () => {
    const mac = Mac.parse("02:42:0a:c0:02:05");
    const { type, flags, parts } = putFdb(3, mac, Ip.parse("198.51.100.2"));
    expect([type, flags]).toEqual([28, 0x500]);
    const payload = Buffer.concat(parts);
    expect(payload.toString("hex")).toBe(
      "07000000" +
        "03000000" +
        "4200" +
        "16" +
        "00" +
        "0a000200" +
        "02420ac00205" +
        "0000" +
        "08000100" +
        "c6336402",
    );
    expect(decodeNeighbour({ type, flags, seq: 0, payload })).toEqual({
      index: 3,
      extLearned: true,
      isStatic: true,
      master: false,
      mac,
      flood: false,
      destination: "198.51.100.2",
    });
  });
});
