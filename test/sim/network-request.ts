import { Cidr, Ip } from "../../shared/ip.ts";
import type { Request } from "./sim-controller.ts";

/** The `i`-th network that somebody makes: of one family or two, with Docker's IPAM or ours, with and without multicast. */
export function networkRequest(i: number): Extract<Request, { kind: "createNetwork" }> {
  const family6 = i % 5 === 3 ? [{ subnet: Cidr.parse(`fd00:${i + 1}::/64`) }] : [];
  // The first dynamic range begins at .4.0: its first block has the gateway in it.
  const [second, third] = [64 + (i % 120), 16 * Math.floor(i / 120)];
  const subnet = Cidr.parse(`10.${second}.${third}.0/20`);
  const gateway = i % 2 === 0 ? Ip.parse(`10.${second}.${third + 4}.3`) : undefined;
  return {
    v: 1,
    kind: "createNetwork",
    network: {
      name: `n${i}`,
      subnets: [{ subnet, gateway, dockerIpam: i % 4 === 1 }, ...family6],
      internal: false,
      attachable: true,
      labels: {},
      driverOptions: {
        ...(i % 3 === 0 ? { multicast: "true" } : {}),
        ...(i % 2 === 0 ? { "dns.unhealthy": "include" } : {}),
      },
    },
  };
}
