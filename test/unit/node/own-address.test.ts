import { expect, test } from "vitest";
import { hasAddress, ipv4Local, ipv6Local } from "../../../shared/node/own-address.ts";
import { Ip } from "../../../shared/ip.ts";

/** Of a machine whose one interface has lost its carrier: os.networkInterfaces() has nothing of it. */
const FIB_TRIE = `Local:
  +-- 198.51.100.0/24 2 0 2
     +-- 198.51.100.0/29 2 0 2
        |-- 198.51.100.0
           /24 link UNICAST
        |-- 198.51.100.7
           /32 host LOCAL
     |-- 198.51.100.255
        /32 link BROADCAST
  +-- 203.0.113.0/31 1 0 0
     |-- 203.0.113.0
        /31 link UNICAST
        /32 host LOCAL
`;
const IF_INET6 = "fd000000000000000000000000000007 03 40 00 c0       v0\n";

test("addresses are read without a carrier, and no network's or broadcast one", () => {
  expect(ipv4Local(FIB_TRIE)).toEqual(["198.51.100.7", "203.0.113.0"]);
  expect(ipv6Local(IF_INET6).map((text) => Ip.parse(text))).toEqual([Ip.parse("fd00::7")]);
});

test("this machine has its own, and not another's", () => {
  expect(hasAddress(Ip.parse("127.0.0.1"))).toBe(true);
  expect(hasAddress(Ip.parse("198.51.100.250"))).toBe(false);
});

test("a machine that cannot say which addresses it has keeps them, and the agent runs on", () => {
  const outOfFiles = (): never => {
    throw new Error("uv_interface_addresses returned Unknown system error 24");
  };
  expect(hasAddress(Ip.parse("198.51.100.250"), outOfFiles)).toBe(true);
});
