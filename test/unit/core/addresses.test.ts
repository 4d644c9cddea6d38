import { expect, test } from "vitest";
import { freeAddresses, nextAddress } from "../../../agent/core/ipam.ts";
import { Cidr, type Ip } from "../../../shared/ip.ts";
import { app, nodeId } from "../../support/cluster.ts";

const ip = (text: string): Ip => text as Ip;
const subnet = {
  subnet: Cidr.parse("10.7.0.0/28"),
  gateway: ip("10.7.0.1"),
  dynamicRanges: [Cidr.parse("10.7.0.0/28")],
};
const block = (text: string, k: number) => ({
  network: app.id,
  block: Cidr.parse(text),
  node: nodeId(k),
});
const blocks = [block("10.7.0.0/30", 1), block("10.7.0.4/30", 2), block("10.7.0.12/30", 1)];

test("through own blocks, round and round, never network, gateway or broadcast address", () => {
  const given: string[] = [];
  let last: Ip | undefined;
  for (let i = 0; i < 7; i++) {
    last = nextAddress(nodeId(1), subnet, blocks, new Set(), last);
    given.push(last ?? "none");
  }
  expect(given).toEqual([
    "10.7.0.2",
    "10.7.0.3",
    "10.7.0.12",
    "10.7.0.13",
    "10.7.0.14",
    "10.7.0.2",
    "10.7.0.3",
  ]);
});

test("nor one that the user keeps for something else", () => {
  const kept = { ...subnet, reserved: [ip("10.7.0.2"), ip("10.7.0.13")] };
  expect(nextAddress(nodeId(1), kept, blocks, new Set(), undefined)).toBe("10.7.0.3");
  expect(freeAddresses(nodeId(1), kept, blocks, new Set())).toEqual({ free: 3, total: 3 });
});

test("none that is used; none at all when all are", () => {
  const used = new Set(["10.7.0.2", "10.7.0.12", "10.7.0.13"].map(ip));
  expect(nextAddress(nodeId(1), subnet, blocks, used, ip("10.7.0.3"))).toBe("10.7.0.14");
  expect(freeAddresses(nodeId(1), subnet, blocks, used)).toEqual({ free: 2, total: 5 });
  for (const text of ["10.7.0.3", "10.7.0.14"]) used.add(ip(text));
  expect(nextAddress(nodeId(1), subnet, blocks, used, undefined)).toBeUndefined();
});

test("an address granted by name is not for everybody", () => {
  const ranged = { ...subnet, dynamicRanges: [Cidr.parse("10.7.0.8/29")] };
  const granted = [block("10.7.0.5/32", 1)];
  expect(nextAddress(nodeId(1), ranged, granted, new Set(), undefined)).toBeUndefined();
});
