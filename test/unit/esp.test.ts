import { expect, test } from "vitest";
import { largestEspMtuBytes } from "../../shared/esp.ts";

test.each([
  [4, 1500, 1416],
  [6, 1500, 1396],
  [4, 1501, 1416],
  [4, 1503, 1416],
  [4, 1504, 1420],
  [4, 9001, 8916],
  [6, 1280, 1176],
] as const)("over IPv%i with an MTU of %i, ESP and VXLAN leave %i bytes", (family, mtu, inner) => {
  expect(largestEspMtuBytes(family, mtu)).toBe(inner);
});
