import { describe } from "vitest";
import { ipsecTraffic } from "./ipsec-traffic.ts";

describe("containers under ESP over IPv4", () => {
  ipsecTraffic(4, Number(process.env["ROTATION_SECONDS"] ?? 10));
});
