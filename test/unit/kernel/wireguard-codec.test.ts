import { expect, test } from "vitest";
import type { PeerChange, WireguardKey } from "../../../agent/core/keys/wireguard.ts";
import {
  attr,
  encodeFrame,
  nest,
  text,
  u16,
  u32,
  u8,
} from "../../../agent/kernel/netlink/codec.ts";
import {
  changePeers,
  decodeDevice,
  dumpDevice,
  setIdentity,
} from "../../../agent/kernel/netlink/wireguard.ts";
import { Ip } from "../../../shared/ip.ts";

const FAMILY = 31;
const key = (byte: number): WireguardKey =>
  Buffer.alloc(32, byte).toString("base64") as WireguardKey;
const hex = (parts: readonly Buffer[]): string => Buffer.concat(parts).toString("hex");
const message = (...parts: Buffer[]) => ({
  type: FAMILY,
  flags: 0,
  seq: 1,
  payload: encodeFrame(0, 0, 0, Buffer.from([0, 1, 0, 0]), ...parts).subarray(16),
});

// linux/wireguard.h, written out: command and version, then attributes of length, type, value.
const IFNAME = "08000200 77673000";
const bytes = (...words: string[]): string => words.join("").replaceAll(" ", "");

test("private key and port in one message that is named without them", () => {
  const request = setIdentity(FAMILY, "wg0", Buffer.alloc(32, 0x5a), 7951);
  expect(hex(request.parts)).toBe(
    bytes("01010000", IFNAME, "24000300", "5a".repeat(32), "06000600 0f1f0000"),
  );
  expect(request.type).toBe(FAMILY);
  expect(request.op).toBe("WG_CMD_SET_DEVICE wg0");
});

test("a peer: key, flags, endpoint, keepalive, its one address instead of all others", () => {
  const change: PeerChange = {
    kind: "add",
    publicKey: key(0x11),
    endpoint: { ip: Ip.parse("198.51.100.2"), port: 7951 },
    inside: Ip.parse("198.19.0.2"),
    keepaliveSeconds: 25,
  };
  const [request, ...others] = changePeers(FAMILY, "wg0", [change]);
  expect(others).toEqual([]);
  expect(hex(request!.parts)).toBe(
    bytes(
      "01010000",
      IFNAME,
      "70000880",
      "6c000080",
      "24000100",
      "11".repeat(32),
      "08000300 02000000",
      "14000400 0200 1f0f c6336402 0000000000000000",
      "06000500 19000000",
      "20000980 1c000080 06000100 02000000 08000200 c6130002 05000300 20000000",
    ),
  );
});

test("over IPv6 the endpoint is a sockaddr_in6", () => {
  const endpoint = { ip: Ip.parse("2001:db8::2"), port: 7951 };
  const [request] = changePeers(FAMILY, "wg0", [{ kind: "update", publicKey: key(1), endpoint }]);
  expect(hex(request!.parts)).toContain(
    bytes(
      "08000300 04000000",
      "20000400 0a00 1f0f 00000000 20010db8 000000000000000000000002 00000000",
    ),
  );
});

test("a removal removes, and makes nothing", () => {
  const [request] = changePeers(FAMILY, "wg0", [{ kind: "remove", publicKey: key(1) }]);
  expect(hex(request!.parts)).toMatch(/0800030005000000$/);
});

test("a thousand peers are four messages, each of less than an attribute holds", () => {
  const change = (i: number): PeerChange => ({
    kind: "add",
    publicKey: key(i & 255),
    endpoint: { ip: Ip.parse("2001:db8::2"), port: 7951 },
    inside: Ip.parse("2001:db8::2"),
    keepaliveSeconds: 25,
  });
  const requests = changePeers(
    FAMILY,
    "wg0",
    Array.from({ length: 1000 }, (_, i) => change(i)),
  );
  expect(requests.length).toBe(4);
  for (const { parts } of requests) expect(Buffer.concat(parts).length).toBeLessThan(65_536);
  expect(changePeers(FAMILY, "wg0", [])).toEqual([]);
});

test("the device is asked by its name", () => {
  expect(hex(dumpDevice(FAMILY, "wg0").parts)).toBe(bytes("00010000", IFNAME));
});

test("a device with its peers is read, a peer that came in two messages too", () => {
  const allowed = (ip: string, length: number): Buffer =>
    nest(0, attr(1, u16(2)), attr(2, Buffer.from(ip.split(".").map(Number))), attr(3, u8(length)));
  const u64 = (value: bigint): Buffer => {
    const out = Buffer.alloc(8);
    out.writeBigUInt64LE(value);
    return out;
  };
  const peers = (...entries: Buffer[]): Buffer => nest(8, ...entries);
  const first = nest(
    0,
    attr(1, Buffer.alloc(32, 1)),
    attr(4, Buffer.from(bytes("0200 1f0f c6336402 0000000000000000"), "hex")),
    attr(5, u16(25)),
    attr(6, u64(1_700_000_000n), u64(250_000_000n)),
    attr(7, u64(148n)),
    attr(8, u64(92n)),
    nest(9, allowed("198.19.0.2", 32)),
  );
  const rest = nest(0, attr(1, Buffer.alloc(32, 1)), nest(9, allowed("10.0.0.0", 8)));
  const second = nest(0, attr(1, Buffer.alloc(32, 2)), attr(6, u64(0n), u64(0n)));
  const device = [attr(2, text("wg0")), attr(4, Buffer.alloc(32, 9)), attr(6, u16(7951))];
  expect(
    decodeDevice([
      message(...device, attr(3, Buffer.alloc(32, 0x5a)), attr(7, u32(0)), peers(first)),
      message(attr(2, text("wg0")), peers(rest, second)),
    ]),
  ).toEqual({
    publicKey: key(9),
    listenPort: 7951,
    peers: [
      {
        publicKey: key(1),
        endpoint: { ip: "198.51.100.2", port: 7951 },
        allowed: ["198.19.0.2/32", "10.0.0.0/8"],
        keepaliveSeconds: 25,
        lastHandshakeMs: 1_700_000_000_250,
        rxBytes: 148,
        txBytes: 92,
      },
      {
        publicKey: key(2),
        endpoint: undefined,
        allowed: [],
        keepaliveSeconds: 0,
        lastHandshakeMs: undefined,
        rxBytes: 0,
        txBytes: 0,
      },
    ],
  });
  expect(decodeDevice([message(attr(4, Buffer.alloc(32)))]).publicKey).toBeUndefined();
});
