import { expect, test } from "vitest";
import type { PeerChange, WireguardKey } from "../../../agent/core/keys/wireguard.ts";
import {
  changePeers,
  decodeAnswer,
  decodeDevice,
  setIdentity,
} from "../../../agent/encryption/wireguard/uapi.ts";
import { Ip } from "../../../shared/ip.ts";

const key = (byte: number): WireguardKey =>
  Buffer.alloc(32, byte).toString("base64") as WireguardKey;

test("what is asked is lines, keys in hex", () => {
  expect(setIdentity(Buffer.alloc(32, 0x5a), 7951)).toBe(
    `set=1\nprivate_key=${"5a".repeat(32)}\nlisten_port=7951\n\n`,
  );
  const changes: PeerChange[] = [
    { kind: "remove", publicKey: key(1) },
    {
      kind: "add",
      publicKey: key(2),
      endpoint: { ip: Ip.parse("2001:db8::2"), port: 7951 },
      inside: Ip.parse("198.19.0.2"),
      keepaliveSeconds: 0,
    },
    { kind: "update", publicKey: key(3), endpoint: { ip: Ip.parse("198.51.100.3"), port: 1 } },
  ];
  expect(changePeers(changes).split("\n")).toEqual([
    "set=1",
    `public_key=${"01".repeat(32)}`,
    "update_only=true",
    "remove=true",
    `public_key=${"02".repeat(32)}`,
    "endpoint=[2001:db8::2]:7951",
    "persistent_keepalive_interval=0",
    "replace_allowed_ips=true",
    "allowed_ip=198.19.0.2/32",
    `public_key=${"03".repeat(32)}`,
    "update_only=true",
    "endpoint=198.51.100.3:1",
    "",
    "",
  ]);
});

test("an answer is whole at its empty line, whatever pieces it comes in", () => {
  expect(decodeAnswer("listen_port=1\nerrno=0\n")).toBeUndefined();
  expect(decodeAnswer("errno=98\n\n")?.errno).toBe(98);
});

test("the device is read with its peers; of its private key only the public half is kept", () => {
  const text = [
    `private_key=${"5a".repeat(32)}`,
    "listen_port=7951",
    `public_key=${"01".repeat(32)}`,
    "preshared_key=0000",
    "protocol_version=1",
    "endpoint=[2001:db8::2]:7951",
    "last_handshake_time_sec=1700000000",
    "last_handshake_time_nsec=250000000",
    "tx_bytes=92",
    "rx_bytes=148",
    "persistent_keepalive_interval=25",
    "allowed_ip=198.19.0.2/32",
    `public_key=${"02".repeat(32)}`,
    "last_handshake_time_sec=0",
    "last_handshake_time_nsec=0",
    "errno=0",
    "",
    "",
  ].join("\n");
  const device = decodeDevice(decodeAnswer(text)!, () => key(9));
  expect(device).toEqual({
    publicKey: key(9),
    listenPort: 7951,
    peers: [
      {
        publicKey: key(1),
        endpoint: { ip: "2001:db8::2", port: 7951 },
        allowed: ["198.19.0.2/32"],
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
});
