import { join } from "node:path";
import { afterEach, beforeEach, describe } from "vitest";
import { LinuxIpsec } from "../../agent/encryption/ipsec/linux-ipsec.ts";
import { Ip } from "../../shared/ip.ts";
import { ipsecContract } from "../contract/ipsec-contract.ts";
import { TestHosts } from "../support/hosts.ts";

describe.each([
  { over: 4, local: Ip.parse("198.51.100.1"), peer: Ip.parse("198.51.100.2") },
  { over: 6, local: Ip.parse("2001:db8::1"), peer: Ip.parse("2001:db8::2") },
])("IPsec of the kernel over IPv$over", ({ local, peer }) => {
  let hosts: TestHosts;
  let kernel: LinuxIpsec;
  beforeEach(() => {
    hosts = new TestHosts(1);
    kernel = new LinuxIpsec({ local, udpPort: 7950, hostNetns: join(hosts.directory, "h1") });
  });
  afterEach(async () => {
    await kernel.close();
    hosts.close();
  });
  ipsecContract(() => ({
    kernel,
    local,
    peer,
    flushAssociations: () => hosts.in(join(hosts.directory, "h1"), "ip xfrm state flush"),
    flushPolicies: () => hosts.in(join(hosts.directory, "h1"), "ip xfrm policy flush"),
  }));
});
