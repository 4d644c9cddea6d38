import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe } from "vitest";
import { LinuxIpsec } from "../../agent/encryption/ipsec/linux-ipsec.ts";
import { ipsecContract } from "../contract/ipsec-contract.ts";
import { vtepOf } from "../support/cluster.ts";
import { TestHosts } from "../support/hosts.ts";
import { loadModules } from "./modules.ts";

describe.each([4, 6] as const)("IPsec of the kernel over IPv%i", (family) => {
  let hosts: TestHosts;
  let kernel: LinuxIpsec;
  const host = (): string => join(hosts.directory, "h1");
  const local = vtepOf(1, family);
  beforeAll(() => {
    loadModules();
    hosts = new TestHosts(1);
  });
  beforeEach(() => {
    kernel = new LinuxIpsec({ local, udpPort: 7950, hostNetns: host() });
  });
  afterEach(async () => {
    await kernel.removeAll();
    await kernel.close();
  });
  afterAll(() => hosts.close());
  ipsecContract(() => ({
    kernel,
    local,
    peer: vtepOf(2, family),
    moved: () => new LinuxIpsec({ local: vtepOf(3, family), udpPort: 7950, hostNetns: host() }),
    flushAssociations: () => hosts.in(host(), "ip xfrm state flush"),
    flushPolicies: () => hosts.in(host(), "ip xfrm policy flush"),
  }));
});
