import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  bytesToIp,
  Cidr,
  cidrContains,
  Ip,
  ipToBytes,
  ipToNumber,
  numberToIp,
  rangeOf,
} from "../../shared/ip.ts";
import { derivedMacs, Mac, ruleMac } from "../../shared/mac.ts";

const ipv4 = fc.ipV4().map((text) => Ip.parse(text));
const ipv6 = fc.ipV6().map((text) => Ip.parse(text));
const ip = fc.oneof(ipv4, ipv6);

describe("addresses", () => {
  test("an address survives the number and the bytes", () => {
    fc.assert(
      fc.property(ip, (address) => {
        expect(bytesToIp(ipToBytes(address))).toBe(address);
        expect(numberToIp(ipToNumber(address), address.includes(":") ? 6 : 4)).toBe(address);
      }),
    );
  });

  test("a subnet contains exactly first to last", () => {
    fc.assert(
      fc.property(ipv4, fc.integer({ min: 1, max: 32 }), (address, length) => {
        const first = (ipToNumber(address) >> BigInt(32 - length)) << BigInt(32 - length);
        const subnet = Cidr.parse(`${numberToIp(first, 4)}/${length}`);
        const { last } = rangeOf(subnet);
        expect(cidrContains(subnet, address)).toBe(true);
        expect(cidrContains(subnet, numberToIp(last, 4))).toBe(true);
        if (last < 0xffffffffn) expect(cidrContains(subnet, numberToIp(last + 1n, 4))).toBe(false);
      }),
    );
  });

  test.each([
    "10.0.0.1/8",
    "10.0.0.0",
    "10.0.0.0/33",
    "fd00::1/64",
    "x/8",
    "1.2.3/8",
    "10.0.0.0/8/8",
    "fe80::%1/64",
  ])("%s is no subnet", (text) => expect(Cidr.safeParse(text).success).toBe(false));
});

describe("the MAC rule", () => {
  test("02:42 and the address", () => {
    expect(ruleMac(Ip.parse("10.1.2.255"))).toBe("02:42:0a:01:02:ff");
  });

  test("an address derives two unicast MACs, and no other IPv4 address the same", () => {
    fc.assert(
      fc.property(ipv4, ipv4, (address, other) => {
        const macs = derivedMacs(address);
        expect(macs.map((mac) => Mac.parse(mac))).toEqual(macs);
        const all = new Set([...macs, ...derivedMacs(other)]);
        expect(all.size).toBe(address === other ? 2 : 4);
      }),
    );
  });

  test.each(["01:00:5e:00:00:01", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "02:42:0a:01:02"])(
    "%s is no endpoint's MAC",
    (text) => expect(Mac.safeParse(text).success).toBe(false),
  );
});
