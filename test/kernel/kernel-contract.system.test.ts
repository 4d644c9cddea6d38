import { join } from "node:path";
import { afterEach, beforeEach, describe } from "vitest";
import { portLink } from "../../agent/core/data-plane/kernel-state.ts";
import { LinuxKernel } from "../../agent/kernel/linux-kernel.ts";
import { kernelContract } from "../contract/kernel-contract.ts";
import { TestHosts } from "../support/hosts.ts";

describe("Linux", () => {
  let hosts: TestHosts;
  let kernel: LinuxKernel;
  beforeEach(() => {
    hosts = new TestHosts(1);
    kernel = new LinuxKernel({
      netnsDirectory: join(hosts.directory, "netns"),
      hostNetns: join(hosts.directory, "h1"),
    });
  });
  afterEach(async () => {
    for (const network of await kernel.list()) await kernel.apply(network, [{ kind: "retract" }]);
    await kernel.close();
    hosts.close();
  });
  kernelContract(
    () => kernel,
    // The alias is what a port gets last.
    (network, endpoint) => {
      const inside = join(hosts.directory, "netns", network);
      hosts.in(inside, `ip link set ${portLink(endpoint)} alias ""`);
    },
    (network) =>
      hosts.in(join(hosts.directory, "netns", network), "sysctl -qw net.ipv4.ip_forward=0"),
  );
});
