import type { LabHost } from "../support/lab-host.ts";
import { agentPid, socketsElsewhere } from "./agent-process.ts";

/** What a host holds for containers: the same before they came and after they went, or something leaks. */
export interface Held {
  readonly endpoints: number;
  readonly addresses: number;
  /** Namespaces of networks. */
  readonly namespaces: number;
  /** Bridge ports in them, and what each may speak as. */
  readonly ports: number;
  readonly filterElements: number;
  /** Container ends and Docker's own veths, in the host's namespace. */
  readonly links: number;
  /** Whom the guards let speak, and on which networks. */
  readonly speakers: number;
  readonly hosting: number;
  /** Of the agent, in networks' and containers' namespaces. */
  readonly sockets: number;
  /** Containers in whose namespaces names are diverted to the agent. */
  readonly nameTables: number;
}

export async function held(host: LabHost): Promise<Held> {
  const { networks } = await host.status();
  const names = (await host.exec("ls", "/run/overlay-ts/netns")).split("\n").filter(isNetwork);
  const inside = await Promise.all(names.map((name) => heldInside(host, name)));
  const links = await host.exec("ip", "-o", "link");
  const guards = await elements(host, ["nft", "-j", "list", "table", "inet", "overlay_ts"]);
  return {
    endpoints: sum(networks.map(({ endpoints }) => endpoints)),
    addresses: sum(networks.map(({ addresses }) => addresses)),
    namespaces: names.length,
    ports: sum(inside.map(({ ports }) => ports)),
    filterElements: sum(inside.map(({ filterElements }) => filterElements)),
    links: links.match(/^\d+: (ovc|veth)/gm)?.length ?? 0,
    speakers: guards("speakers"),
    hosting: guards("hosting"),
    sockets: socketsElsewhere(agentPid(host.directory)),
    nameTables: await nameTables(host),
  };
}

async function nameTables(host: LabHost): Promise<number> {
  // By Docker's namespaces: the engine itself may be away.
  const script =
    'for n in /run/docker/netns/*; do nsenter --net="$n" nft list tables 2>/dev/null || true; done';
  const tables = await host.exec("sh", "-c", script);
  return tables.match(/overlay_ts_dns/g)?.length ?? 0;
}

async function heldInside(host: LabHost, network: string) {
  const inside = ["nsenter", `--net=/run/overlay-ts/netns/${network}`];
  const links = await host.exec(...inside, "ip", "-o", "link");
  const filter = [...inside, "nft", "-j", "list", "table", "bridge", "overlay_ts"];
  const count = await elements(host, filter);
  return {
    ports: links.match(/^\d+: ovp/gm)?.length ?? 0,
    filterElements: count("ports") + count("ports6"),
  };
}

/** @returns how many elements a set of the listed table has. */
async function elements(host: LabHost, list: string[]): Promise<(set: string) => number> {
  const { nftables } = JSON.parse(await host.exec(...list)) as {
    nftables: { set?: { name: string; elem?: unknown[] } }[];
  };
  return (name) => nftables.find(({ set }) => set?.name === name)?.set?.elem?.length ?? 0;
}

function isNetwork(name: string): boolean {
  return /^[0-9a-f]{32}$/.test(name);
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
