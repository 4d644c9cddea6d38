import { afterAll, afterEach, beforeAll, describe } from "vitest";
import { wireguardContract } from "../contract/wireguard-contract.ts";
import { RealWireguardHosts } from "../support/wireguard-hosts.ts";

describe("WireGuard of the kernel", () => {
  let hosts: RealWireguardHosts;
  beforeAll(() => {
    hosts = new RealWireguardHosts(3);
  });
  afterEach(() => hosts.reset());
  afterAll(() => hosts.close());
  wireguardContract(() => hosts);
});
