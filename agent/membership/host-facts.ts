import { existsSync, readFileSync } from "node:fs";
import { hostname, networkInterfaces } from "node:os";
import { OverlayError } from "../../shared/errors.ts";
import {
  type Cidr,
  type Family,
  familyOf,
  hostCidr,
  Ip as IpSchema,
  type Ip,
  parseInterfaceAddress,
  toCidr,
} from "../../shared/ip.ts";

import { MOST_OWN_SUBNETS } from "../../shared/cluster-state.ts";
import type { UnderlayFacts } from "../../shared/underlay.ts";
import { linkNamed } from "../kernel/netlink/dumps.ts";
import { RtNetlink } from "../kernel/netlink/socket.ts";

/** Facts of this machine for the node table, read from the kernel without running programs. */

interface HostAddress {
  readonly link: string;
  readonly ip: Ip;
  readonly subnet: Cidr;
}

/** Links of Docker's own networks: they may overlap a network of ours, each in its namespace. */
const DOCKER_LINKS = /^(docker\d+|docker_gwbridge|br-[0-9a-f]{12}|veth|ov[cpt])/;

export function defaultName(): string {
  return hostname().split(".")[0] ?? "host";
}

/**
 * The one address others can reach, of the family that the cluster's hosts talk when that is known;
 * with several the user must say. @throws INVALID
 */
export function chooseAddress(asked: Ip | undefined, family?: Family): Ip {
  const addresses = hostAddresses().filter(({ link }) => !DOCKER_LINKS.test(link));
  if (asked !== undefined) {
    if (addresses.some(({ ip }) => ip === asked)) return asked;
    throw new OverlayError({
      code: "INVALID",
      message: `${asked} is no address of this host`,
      next: `its addresses are ${addresses.map(({ ip, link }) => `${ip} (${link})`).join(", ") || "none"}; behind NAT, \`join\` takes one of them as --listen-addr`,
    });
  }
  const of = (wanted: Family) => addresses.filter(({ ip }) => familyOf(ip) === wanted);
  const ipv4 = of(4);
  const [only, ...others] = family === undefined ? (ipv4.length > 0 ? ipv4 : of(6)) : of(family);
  if (only !== undefined && others.length === 0) return only.ip;
  throw new OverlayError({
    code: "INVALID",
    message:
      only === undefined
        ? `this host has no ${family === undefined ? "" : `IPv${family} `}address that others could reach`
        : "this host has several addresses",
    next: `say which with --advertise-addr: ${addresses.map(({ ip, link }) => `${ip} (${link})`).join(", ")}`,
  });
}

/** Undefined: no interface has the address now. */
export async function underlayFacts(address: Ip): Promise<UnderlayFacts | undefined> {
  const underlayMtuBytes = await mtuBytesOf(address);
  if (underlayMtuBytes === undefined) return undefined;
  const subnets = hostAddresses()
    .filter((held) => !DOCKER_LINKS.test(held.link))
    .map(({ subnet }) => subnet);
  const all = new Set([...subnets, ...routes(), ...routes6(), ...resolvers()]);
  return { underlayMtuBytes, ownSubnets: [...all].slice(0, MOST_OWN_SUBNETS) };
}

/** Where this host is directly connected, Docker's own networks included. */
export function hostSubnets(): { link: string; subnet: Cidr }[] {
  return hostAddresses().map(({ link, subnet }) => ({ link, subnet }));
}

/** Not from /sys: that may be another namespace's. */
async function mtuBytesOf(address: Ip): Promise<number | undefined> {
  const link = hostAddresses().find(({ ip }) => ip === address)?.link;
  if (link === undefined) return undefined;
  const socket = new RtNetlink(undefined);
  try {
    return (await linkNamed(socket, link))?.mtuBytes;
  } finally {
    socket.close();
  }
}

function hostAddresses(): HostAddress[] {
  return Object.entries(networkInterfaces()).flatMap(([link, addresses]) =>
    (addresses ?? [])
      .filter(({ internal, cidr, scopeid }) => !internal && cidr !== null && !scopeid)
      .map(({ cidr }) => ({ link, ...parseInterfaceAddress(cidr ?? "") })),
  );
}

/** /proc/net/route: interface, destination and mask as hex of little-endian words. */
function routes(): Cidr[] {
  const lines = readFileSync("/proc/thread-self/net/route", "utf8").trim().split("\n").slice(1);
  return lines.flatMap((line) => {
    const [link = "", destination = "", , , , , , mask = ""] = line.split("\t");
    if (DOCKER_LINKS.test(link) || mask === "00000000") return [];
    const first = BigInt(Buffer.from(destination, "hex").readUInt32LE());
    const length = Buffer.from(mask, "hex").reduce((bits, byte) => bits + ones(byte), 0);
    return [toCidr(first, length, 4)];
  });
}

/** /proc/net/ipv6_route: destination, its length, both hex; what is not of other hosts is left out. */
function routes6(): Cidr[] {
  const path = "/proc/thread-self/net/ipv6_route";
  if (!existsSync(path)) return [];
  return readFileSync(path, "utf8")
    .trim()
    .split("\n")
    .flatMap((line) => {
      const fields = line.split(/\s+/);
      const [destination = "", hexLength = ""] = fields;
      const link = fields.at(-1) ?? "";
      const length = Number.parseInt(hexLength, 16);
      const ordinary = /^[23]|^f[cd]/.test(destination) && length > 0;
      if (!ordinary || link === "lo" || DOCKER_LINKS.test(link)) return [];
      return [toCidr(BigInt(`0x${destination}`), length, 6)];
    });
}

function resolvers(): Cidr[] {
  const text = existsSync("/etc/resolv.conf") ? readFileSync("/etc/resolv.conf", "utf8") : "";
  return [...text.matchAll(/^nameserver\s+(\S+)\s*$/gm)].flatMap(([, address]) => {
    const ip = IpSchema.safeParse(address);
    const own = ip.success && (ip.data.startsWith("127.") || ip.data === "::1");
    return ip.success && !own ? [hostCidr(ip.data)] : [];
  });
}

function ones(byte: number): number {
  return byte.toString(2).replaceAll("0", "").length;
}
