import type { TestHosts } from "./hosts.ts";

/** Each single thing that a namespace holds, and a command that takes it away or makes it another one. */
export interface Change {
  readonly what: string;
  readonly command: string;
  /** The kernel tells of it, so that it is mended at once. */
  readonly isLoss: boolean;
}

interface Link {
  readonly ifname: string;
}

/** Of routing, links and entries, as iproute2 lists them. What the kernel makes by itself is left out. */
export function changesIn(hosts: TestHosts, netns: string): Change[] {
  const lines = (command: string): string[] =>
    hosts
      .in(netns, command)
      .split("\n")
      .map((line) => line.trim())
      .filter(Boolean);
  const loss = (what: string, command: string): Change => ({ what, command, isLoss: true });
  const links = (JSON.parse(hosts.in(netns, "ip -j link")) as Link[])
    .map(({ ifname }) => ifname)
    .filter((name) => name !== "lo");
  return [
    ...links.flatMap((name) => [
      loss(`${name} down`, `ip link set ${name} down`),
      { what: `${name}'s MTU`, command: `ip link set ${name} mtu 1300`, isLoss: false },
    ]),
    ...[4, 6].flatMap((family) =>
      lines(`ip -${family} -o address show scope global`).map((line) => {
        const [, link, , address] = line.split(/\s+/);
        return loss(`address ${address}`, `ip address del ${address} dev ${link}`);
      }),
    ),
    ...lines("ip -4 route show table all")
      .filter((line) => !/^broadcast|^local 127| lo /.test(line))
      .map((line) => loss(`route ${line}`, `ip route del ${line}`)),
    ...lines("ip -4 rule").map((line) => {
      const [priority] = line.split(":");
      return loss(`rule ${line}`, `ip rule del priority ${priority}`);
    }),
    loss("a rule more", "ip rule add priority 5 blackhole"),
    { what: "a route more", command: "ip route add blackhole 198.18.0.0/17", isLoss: false },
    ...lines("bridge fdb")
      .filter((line) => !/ permanent$|^33:33|^01:00/.test(line) || / dst /.test(line))
      .map((line) => loss(`FDB ${line}`, `bridge fdb del ${fdbOf(line)}`)),
    ...lines("ip neigh")
      .filter((line) => line.endsWith(" PERMANENT"))
      .map((line) => {
        const [ip, , link] = line.split(" ");
        return loss(`neighbour ${line}`, `ip neigh del ${ip} dev ${link}`);
      }),
    ...links.map((name) => loss(`link ${name}`, `ip link del ${name}`)),
  ];
}

/** `MAC dev LINK master|self [dst IP]`: which of the two tables of a link. */
function fdbOf(line: string): string {
  const [mac, , link] = line.split(" ");
  const to = / dst (\S+)/.exec(line)?.[1];
  const half = / master /.test(line) && !/ self/.test(line) ? "master" : "self";
  return `${mac} dev ${link} ${half}${to === undefined ? "" : ` dst ${to}`}`;
}

/** For comparing; numbers of links differ when one was made again. */
export function objectsIn(hosts: TestHosts, netns: string): string {
  // Of a veth the kernel chooses our end's MAC: another one when it was made again.
  const links = JSON.parse(hosts.in(netns, "ip -j link")) as (Link & { address: string })[];
  const chosen = links.filter(({ ifname }) => /^ovp|^tr0$/.test(ifname));
  const given = (line: string): string =>
    chosen.reduce((text, { address }) => text.replaceAll(address, "chosen"), line);
  return [
    "ip -o link",
    "ip -4 -o address show scope global",
    "ip -6 -o address show scope global",
    "ip -4 route show table all",
    "ip -4 rule",
    "bridge fdb",
    "ip neigh show nud permanent",
  ]
    .flatMap((command) => hosts.in(netns, command).split("\n").map(withoutNumbers).toSorted())
    .filter((line) => !/^(33:33|01:00)/.test(line))
    .map(given)
    .join("\n");
}

function withoutNumbers(line: string): string {
  return line.replaceAll(/^\d+: |@if\d+|link-netns \S+|<.*?>|state \S+/g, "");
}
