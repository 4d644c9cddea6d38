import type { Lab } from "../lab/lab.ts";
import { IMAGE } from "../lab/lab.ts";
import type { LabHost } from "../support/lab-host.ts";
import { eventually } from "../support/lab-host.ts";

/** Docker's own networks across hosts, on the lab's engines: what we are compared with. */

const NETWORK = "swarm-app";

export interface SpanningNetwork {
  readonly name: string;
  /** The network's namespace on a host, where bridge and VXLAN device are. */
  readonly netns: (host: LabHost) => string;
}

/** The lab's engines as one Swarm, with a network that any container may join, and a container on each host. */
export async function formSwarm(lab: Lab): Promise<SpanningNetwork> {
  const [first, ...others] = lab.hosts;
  if (first === undefined) throw new Error("no host");
  await first.docker("swarm", "init", "--advertise-addr", "198.51.100.1");
  const token = (await first.docker("swarm", "join-token", "-q", "worker")).trim();
  for (const host of others) await host.docker("swarm", "join", "--token", token, "198.51.100.1");
  await first.docker("network", "create", "-d", "overlay", "--attachable", NETWORK);
  for (const host of lab.hosts) {
    const run = ["run", "-d", "--name", "swarm-keeper", "--network", NETWORK];
    // An engine hears of a new network a moment later.
    await eventually(60_000, `${NETWORK} on ${host.name}`, async () => {
      await host.docker("rm", "-f", "swarm-keeper").catch(() => {});
      await host.docker(...run, IMAGE, "/bin/sleep", "100000");
    });
  }
  const id = (await first.docker("network", "inspect", "-f", "{{.Id}}", NETWORK)).trim();
  // libnetwork's overlay driver names it so (ov_network.go, initSandbox).
  const netns = (host: LabHost): string => host.path(`/run/docker/netns/1-${id.slice(0, 10)}`);
  return { name: NETWORK, netns };
}
