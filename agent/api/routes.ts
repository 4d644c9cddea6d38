import { z } from "zod";
import { BOUNDS } from "../../shared/bounds.ts";
import type { NetworkRecord } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import { Cidr, Ip } from "../../shared/ip.ts";
import { bare, byBody, byQuery } from "../../shared/node/routes.ts";
import { EXPOSITION_TYPE } from "../../shared/exposition.ts";
import { PlainText, type Routes } from "../../shared/node/unix-http.ts";
import { oneLine } from "../../shared/text.ts";
import type { AgentParts } from "../agent.ts";
import { readNetwork } from "../core/data-plane/read-network.ts";
import { hostsNeeding, hostsOn, hostsPerhapsNeeding } from "../core/tables/hosts.ts";
import { type Life, STARTING, whyNoMember } from "../core/life.ts";
import { leftOutText } from "../core/names/left-out.ts";
import { membersOf } from "../core/names/members.ts";
import { nameRows } from "../core/names/name-rows.ts";
import { encryptionStatus } from "./encryption-status.ts";
import { events } from "./events-query.ts";
import { verify } from "./verify.ts";
import { vipRoutes } from "./vips.ts";
import { findNetwork, findNode, nodeName, nodeNames } from "./look-up.ts";
import type { PluginCounts } from "../docker/plugin/counters.ts";
import { HostMetrics, type MetricsServed } from "./metrics.ts";
import { notRunning, statusOf } from "./status.ts";

/**
 * Routes for the command line on `<run>/agent.sock`. `agent` is of a host that takes
 * part; `life`: why it does not; `plugin`: what Docker asked since the process began.
 */
export function localRoutes(
  agent: () => AgentParts | undefined,
  life: () => Life,
  plugin: () => PluginCounts | undefined,
  { metrics, listening }: MetricsServed = {
    metrics: new HostMetrics(agent, plugin),
    listening: () => undefined,
  },
): Routes {
  const joined = (): AgentParts => {
    const found = agent();
    if (found !== undefined) return found;
    // Between being made and being known as a member it is neither.
    throw new OverlayError(whyNoMember(life()) ?? STARTING);
  };
  return {
    "GET /v1/status": bare(async () => {
      const found = agent();
      const rest = { plugin: plugin(), metrics: listening() };
      if (found === undefined) return { ...notRunning(life()), ...rest };
      return { ...(await statusOf(found)), ...rest };
    }),
    "GET /v1/metrics": bare(async () => new PlainText(EXPOSITION_TYPE, await metrics.text())),
    "POST /v1/probe": bare(() => joined().dataPaths.probeAll()),
    "GET /v1/verify": bare(async () => ({ findings: await verify(joined()) })),
    "GET /v1/state": byQuery(["after", "root"], async ({ after = "0", root }) => ({
      state: joined().replication.stateAfter(revisionIn(after), root),
    })),
    "GET /v1/nodes": bare(async () => nodes(joined())),
    "GET /v1/networks": bare(async () => networks(joined())),
    "GET /v1/networks/inspect": byQuery(["name"], async ({ name = "" }) => {
      const found = joined();
      return inspect(found, findNetwork(found, name));
    }),
    "GET /v1/names": byQuery(["network"], async ({ network }) => names(joined(), network)),
    "GET /v1/events": byQuery(["network", "sinceMs", "follow"], async (query, signal) =>
      events(joined(), query, signal),
    ),
    "GET /v1/endpoints": byQuery(["network"], async ({ network }) => endpoints(joined(), network)),
    "POST /v1/networks": byBody(CreateBody, (body) => createNetwork(joined(), body)),
    "POST /v1/networks/exposed": byQuery(["name"], ({ name = "" }) => {
      const found = joined();
      return found.hostEndpoints.expose(findNetwork(found, name).id);
    }),
    "DELETE /v1/networks/exposed": byQuery(["name"], async ({ name = "" }) => {
      const found = joined();
      await found.hostEndpoints.hide(findNetwork(found, name).id);
      return { hidden: true };
    }),
    "POST /v1/keys/rotate": byQuery(["node", "network"], (query) => rotateKeys(joined(), query)),
    "DELETE /v1/networks": byQuery(["name"], ({ name = "" }) => removeNetwork(joined(), name)),
    ...vipRoutes(joined),
  };
}

/** @throws INVALID */
function revisionIn(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new OverlayError({
    code: "INVALID",
    message: `after=${oneLine(text, 64)} is no revision`,
    next: "give the one that is held already, or leave it away",
  });
}

const CreateBody = z.object({
  /** As engines take it: the network must be shown on all of them (moby daemon/names). */
  name: z
    .string()
    .max(128)
    .regex(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/, "letters, digits, and _ . - after the first"),
  subnet: Cidr.optional(),
  gateway: Ip.optional(),
  range: Cidr.optional(),
  reserved: z.array(Ip).max(BOUNDS.reservedAddresses).default([]),
  internal: z.boolean().default(false),
  options: z.record(z.string(), z.string()).default({}),
  labels: z.record(z.string(), z.string()).default({}),
});

async function createNetwork(
  agent: AgentParts,
  body: z.infer<typeof CreateBody>,
): Promise<unknown> {
  const { subnet, gateway, range, reserved } = body;
  if (subnet === undefined && (gateway ?? range ?? reserved[0]) !== undefined)
    throw new OverlayError({
      code: "INVALID",
      message: "a gateway, a range or reserved addresses need a subnet that they lie in",
      next: "give --subnet too",
    });
  const { network } = await agent.controller.request(
    {
      v: 1,
      kind: "createNetwork",
      network: {
        name: body.name,
        subnets: subnet === undefined ? [] : [{ subnet, gateway, range, reserved }],
        internal: body.internal,
        attachable: true,
        labels: body.labels,
        driverOptions: body.options,
      },
    },
    "network",
  );
  return network;
}

async function removeNetwork(agent: AgentParts, name: string): Promise<unknown> {
  const { tables } = agent.replication;
  const network = findNetwork(agent, name);
  const names = nodeNames(agent, hostsNeeding(tables.hosts, network.id));
  if (names.length > 0)
    throw new OverlayError({
      code: "CONFLICT",
      message: `network ${name} is used on ${names.join(", ")}`,
      next: `remove its containers there, also stopped ones (\`docker ps -a --filter network=${name}\`), and \`overlay-ts network hide\` it; for a host that is gone for good, \`overlay-ts node rm\``,
    });
  const silent = nodeNames(
    agent,
    hostsPerhapsNeeding(tables.state, agent.reach.lost(), network.id),
  );
  if (silent.length > 0)
    throw new OverlayError({
      code: "CONFLICT",
      message: `network ${name} may be used on ${silent.join(", ")}, not reached from here`,
      next: "try again when it is reached; for a host that is gone for good, `overlay-ts node rm`",
    });
  await agent.controller.request({ v: 1, kind: "removeNetwork", network: network.id }, "done");
  return { removed: network.id };
}

/** @throws UNREACHABLE: a host that does not hear of a new WireGuard key would be cut off by it. */
function requireHeard(agent: AgentParts): void {
  const connected = new Set(agent.adapters.mesh.connections());
  const lost = agent.reach.lost();
  const peers = [...(agent.encryption.wireguard.reading()?.peersOf.keys() ?? [])];
  const deaf = peers.filter((node) => !connected.has(node) && !lost.has(node));
  if (deaf.length === 0) return;
  throw new OverlayError({
    code: "UNREACHABLE",
    message: `a new WireGuard key would cut off ${deaf.map((node) => nodeName(agent, node)).join(", ")}: no agent there hears of it`,
    next: "start the agent there, or let it reach this host on the mesh's port, and try again",
  });
}

/** Of which hosts or which network keys are made anew, and whether this host's WireGuard key is. */
export interface Rotated {
  readonly rotated: readonly string[];
  readonly wireguard: boolean;
}

/** Keys of the IPsec pairs with one host or all, or the gossip key of a network. */
async function rotateKeys(
  agent: AgentParts,
  { node, network }: { readonly node?: string; readonly network?: string },
): Promise<Rotated> {
  if (network !== undefined) {
    const { id } = findNetwork(agent, network);
    await agent.controller.request({ v: 1, kind: "rotateKey", network: id }, "done");
    return { rotated: [network], wireguard: false };
  }
  const { ipsec } = agent.encryption;
  const id = node === undefined ? undefined : findNode(agent, node).id;
  const peers = (ipsec.status()?.peers ?? []).filter(
    (peer) => id === undefined || peer.node === id,
  );
  if (id !== undefined && peers.length === 0)
    throw new OverlayError({
      code: "NOT_FOUND",
      message: `this host has no IPsec keys with ${node}: they share no network of the kind \`ipsec\``,
      next: "see `overlay-ts status`; WireGuard's key, one for all hosts, is changed without --node",
    });
  // Refused before anything is changed.
  if (id === undefined) requireHeard(agent);
  ipsec.rotate(id);
  // It is one for all hosts.
  const wireguard = id === undefined && agent.encryption.wireguard.rotate();
  return { rotated: peers.map((peer) => nodeName(agent, peer.node)), wireguard };
}

function nodes(agent: AgentParts): unknown {
  const { state, hosts } = agent.replication.tables;
  const connected = new Set(agent.adapters.mesh.connections());
  const proven = new Map(agent.dataPaths.results("none").map((result) => [result.node, result]));
  return (state?.nodes ?? []).map(({ id, name, address, index }) => ({
    id,
    name,
    address,
    index,
    self: id === agent.identity.node,
    controller: id === state?.controller.node,
    connected: id === agent.identity.node || connected.has(id),
    dialled: agent.replication.dials(id),
    dataPathMs: proven.get(id)?.roundTripMs,
    networks: hosts.get(id)?.hosting.length ?? 0,
  }));
}

function networks(agent: AgentParts): unknown {
  return (agent.replication.tables.state?.networks ?? []).map((record) => network(agent, record));
}

function network(agent: AgentParts, record: NetworkRecord) {
  const { state, hosts } = agent.replication.tables;
  return {
    ...record,
    hosts: nodeNames(agent, hostsOn(hosts, record.id)),
    neededBy: nodeNames(agent, hostsNeeding(hosts, record.id)),
    blocks: state?.blocks
      .filter((block) => block.network === record.id)
      .map(({ block, node }) => ({ block, host: nodeName(agent, node) })),
  };
}

/** With its members and names, as far as this host knows them: it must be on the network itself. */
async function inspect(agent: AgentParts, record: NetworkRecord): Promise<unknown> {
  const { tables } = agent.replication;
  const standing = agent.replication.standing(record.id);
  const here = agent.localNetworks.has(record.id);
  const lost = agent.reach.lostThrough(record.encryption);
  const rows = here ? nameRows(tables, record, lost) : [];
  const holders = Map.groupBy(rows, ({ name }) => name);
  return {
    ...network(agent, record),
    here,
    paths: here ? await pathsOf(agent, record) : undefined,
    inSync: here && standing.inSync,
    // Nobody is there to be in sync with.
    alone: here && standing.alone,
    names: Object.fromEntries(
      [...holders].map(([name, held]) => [
        name,
        held.map(({ ips, host, container, endpoint, state }) => {
          return { ips, host, container, endpoint, state };
        }),
      ]),
    ),
    members: !here
      ? []
      : membersOf(tables, record, lost).map(({ node, endpoint, names, ips, state }) => ({
          host: nodeName(agent, node),
          endpoint: endpoint.id,
          role: endpoint.role ?? "container",
          ips,
          mac: endpoint.mac,
          names,
          state,
          // What its own host says, also where the network does not heed it.
          out: endpoint.out,
        })),
  };
}

/** Of an encrypted network: which of its hosts this one reaches, and why not. */
async function pathsOf(agent: AgentParts, { id, encryption }: NetworkRecord): Promise<unknown> {
  if (encryption === "none") return undefined;
  const on = new Set(hostsOn(agent.replication.tables.hosts, id));
  const found = (await encryptionStatus(agent))[encryption];
  return found?.peers.filter(({ node }) => on.has(node));
}

/** Of the named network, or of all that this host is on. */
function names(agent: AgentParts, name: string | undefined): unknown {
  const { tables } = agent.replication;
  const wanted =
    name === undefined
      ? agent.localNetworks.hosted().flatMap((network) => agent.localNetworks.find(network) ?? [])
      : [findNetwork(agent, name)];
  return wanted.map((record) => {
    const here = agent.localNetworks.has(record.id);
    const lost = agent.reach.lostThrough(record.encryption);
    return {
      network: record.name ?? record.id,
      id: record.id,
      here,
      hosts: nodeNames(agent, hostsOn(tables.hosts, record.id)),
      names: here ? nameRows(tables, record, lost) : [],
      gone: agent.nameServerFeed.gone(record.id).flatMap((holder) => holder.names),
      links: here ? linksOn(agent, record) : [],
      leftOut: (agent.containerWatcher?.status().leftOutNames ?? [])
        .filter(({ network }) => network === record.name)
        .map(leftOutText),
    };
  });
}

/** `--link` of containers here: what each alone calls another. */
function linksOn(agent: AgentParts, { id }: NetworkRecord): unknown[] {
  const own = new Map(agent.localNetworks.endpoints(id).map((one) => [one.id, one]));
  return agent.nameServerFeed.links(id).flatMap(({ endpoint, links = {} }) => {
    const container = own.get(endpoint)?.names?.[0] ?? endpoint.slice(0, 12);
    return Object.entries(links).map(([alias, target]) => ({ container, alias, target }));
  });
}

/** Of the networks this host is on: it knows no others' containers. */
function endpoints(agent: AgentParts, name: string | undefined): unknown {
  const { tables } = agent.replication;
  const wanted = name === undefined ? undefined : findNetwork(agent, name).id;
  return agent.localNetworks
    .hosted()
    .filter((network) => wanted === undefined || network === wanted)
    .flatMap((network) => {
      const record = tables.state?.networks.find(({ id }) => id === network);
      if (record === undefined) return [];
      return readNetwork(tables, record).holders.map(({ node, endpoint, ips }) => ({
        network: record.name ?? record.id,
        host: nodeName(agent, node),
        id: endpoint.id,
        ips,
        mac: endpoint.mac,
        role: endpoint.role ?? "container",
        names: [...(endpoint.names ?? []), ...(endpoint.moreNames ?? [])],
        out: endpoint.out,
      }));
    });
}
