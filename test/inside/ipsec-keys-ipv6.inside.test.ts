import { describe } from "vitest";
import { ipsecOwnKey } from "./ipsec-own-key.ts";

describe("a host that has a key of its own, over IPv6", () => {
  ipsecOwnKey(6);
});
