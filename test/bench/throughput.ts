import { execFileSync } from "node:child_process";
import type { Lab } from "../lab/lab.ts";
import type { LabHost } from "../support/lab-host.ts";
import { containerEnd, type End, tcpGbits } from "./ends.ts";
import { median, round } from "./statistics.ts";

const CONTAINER = "bench-tcp";

export interface Throughput {
  readonly linkGbits: number;
  readonly handmadeGbits: number;
  readonly overlayGbits: number;
  /** Medians of the ratios of neighbouring runs. */
  readonly overHandmade: number;
  readonly overLink: number;
}

/**
 * One TCP stream (iperf3) between h1 and h2, interleaved: the hosts' own link, a bridge and VXLAN
 * made by hand with ip(8) of the same kind, and two containers on the network.
 */
export async function measureThroughput(
  lab: Lab,
  network: string,
  { pairs, seconds }: { pairs: number; seconds: number },
): Promise<Throughput> {
  const [a, b] = lab.hosts;
  if (a === undefined || b === undefined) throw new Error("two hosts are needed");
  const containers = await Promise.all(
    [a, b].map((host) => containerEnd(host, network, CONTAINER)),
  );
  const handmade = [handmadeEnd(a, 1, 2), handmadeEnd(b, 2, 1)];
  const link = [a, b].map((host, i) => ({ host, enter: [], address: `198.51.100.${i + 1}` }));
  const found: Record<"link" | "handmade" | "overlay", number[]> = {
    link: [],
    handmade: [],
    overlay: [],
  };
  try {
    for (let i = 0; i < pairs; i++) {
      found.link.push(await tcpGbits(link, seconds));
      found.handmade.push(await tcpGbits(handmade, seconds));
      found.overlay.push(await tcpGbits(containers, seconds));
    }
  } finally {
    for (const host of [a, b]) {
      await host.docker("rm", "-f", CONTAINER).catch(() => {});
      await host.exec("ip", "netns", "del", "hand-c").catch(() => {});
      await host.exec("ip", "netns", "del", "hand-n").catch(() => {});
    }
  }
  const ratios = (over: readonly number[]): number =>
    round(median(found.overlay.map((value, i) => value / (over[i] ?? Number.NaN))));
  return {
    linkGbits: round(median(found.link)),
    handmadeGbits: round(median(found.handmade)),
    overlayGbits: round(median(found.overlay)),
    overHandmade: ratios(found.handmade),
    overLink: ratios(found.link),
  };
}

/** The same objects as ours, by other hands: a namespace with bridge and VXLAN, one with a veth. */
function handmadeEnd(host: LabHost, k: number, peer: number): End {
  const mac = (n: number): string => `02:aa:00:00:00:0${n}`;
  const commands = [
    "ip netns add hand-n",
    "ip netns add hand-c",
    `ip link add hand-v type vxlan id 999 dstport 4790 local 198.51.100.${k} nolearning df set`,
    "ip link set hand-v netns hand-n mtu 1450",
    "ip -n hand-n link add name hand-b type bridge mcast_snooping 0",
    "ip -n hand-n link set hand-v master hand-b",
    "ip -n hand-n link set hand-b up",
    "ip -n hand-n link set hand-v up",
    `ip -n hand-n link add hp mtu 1450 type veth peer name eth0 mtu 1450 address ${mac(k)} netns hand-c`,
    "ip -n hand-n link set hp master hand-b",
    "ip -n hand-n link set hp up",
    `bridge -n hand-n fdb replace ${mac(peer)} dev hand-v dst 198.51.100.${peer} self`,
    `bridge -n hand-n fdb replace ${mac(peer)} dev hand-v master static`,
    `ip -n hand-c address add 10.99.0.${k}/24 dev eth0`,
    "ip -n hand-c link set eth0 up",
    `ip -n hand-c neigh replace 10.99.0.${peer} lladdr ${mac(peer)} dev eth0 nud permanent`,
  ];
  const [file, args] = host.argv(["sh", "-ec", commands.join("\n")]);
  execFileSync(file, args);
  return { host, enter: ["ip", "netns", "exec", "hand-c"], address: `10.99.0.${k}` };
}
