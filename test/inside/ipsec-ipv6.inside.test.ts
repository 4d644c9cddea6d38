import { describe } from "vitest";
import { ipsecTraffic } from "./ipsec-traffic.ts";

describe("containers under ESP over IPv6", () => {
  ipsecTraffic(6, 3);
});
