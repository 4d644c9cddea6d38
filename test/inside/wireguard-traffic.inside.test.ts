import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { Secret } from "../../agent/encryption/secret.ts";
import { wireguardPublicKey } from "../../agent/encryption/wireguard/keys.ts";
import { Netlink } from "../../agent/kernel/netlink/socket.ts";
import { peer, privateKey, wanted } from "../contract/wireguard-contract.ts";
import { RealWireguardHosts } from "../support/wireguard-hosts.ts";
import { wireguardTraffic } from "../support/wireguard-traffic.ts";

describe("through WireGuard of the kernel", () => {
  let hosts: RealWireguardHosts;
  beforeAll(() => {
    hosts = new RealWireguardHosts(2);
  });
  afterEach(() => hosts.reset());
  afterAll(() => hosts.close());
  wireguardTraffic(() => hosts);

  test("one more peer is one message to the kernel, none is none", async () => {
    const many = Array.from({ length: 300 }, (_, i) =>
      peer(i + 2, {
        publicKey: wireguardPublicKey(new Secret(Buffer.alloc(32, `host ${i + 1000}`))),
        endpoint: peer(2).endpoint,
      }),
    );
    await hosts.tunnel(1).set(privateKey(1), wanted(1, many.slice(1)));
    const written = vi.spyOn(Netlink.prototype, "batch");
    const messages = (): number => written.mock.calls.flatMap(([requests]) => requests).length;
    const read = vi.spyOn(Netlink.prototype, "dump");
    try {
      await hosts.tunnel(1).set(privateKey(1), wanted(1, many.slice(1)));
      expect([messages(), read.mock.calls.length]).toEqual([0, 7]);
      await hosts.tunnel(1).set(privateKey(1), wanted(1, many));
      expect([messages(), read.mock.calls.length]).toEqual([1, 14]);
    } finally {
      vi.restoreAllMocks();
    }
  });
});
