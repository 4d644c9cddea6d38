import { z } from "zod";
import { BOUNDS } from "../shared/bounds.ts";
import type { NetworkRecord } from "../shared/cluster-state.ts";
import { type Failure, OverlayError } from "../shared/errors.ts";
import { Cidr, Ip } from "../shared/ip.ts";
import { bare, byBody, byQuery } from "../shared/node/routes.ts";
import type { Routes } from "../shared/node/unix-http.ts";
import { oneLine } from "../shared/text.ts";
import type { Agent } from "./agent.ts";
import { readNetwork } from "./core/desired.ts";
import { hostsNeeding, hostsOn, hostsPerhapsNeeding } from "./core/hosts.ts";
import { membersOf } from "./core/members.ts";
import { nameRows } from "./core/name-rows.ts";
import { encryptionStatus } from "./encryption-status.ts";
import { events } from "./events-api.ts";
import { verify } from "./findings.ts";
import { findNetwork, findNode, nodeName, nodeNames } from "./look-up.ts";
import { notJoined } from "./overlay-ipam.ts";
import type { PluginCounts } from "./docker/plugin-counters.ts";
import { statusOf } from "./status.ts";

/**
 * What the command line asks of the agent, on `<run>/agent.sock`. `agent` is undefined until joined;
 * `problem`: why a member's agent cannot start; `plugin`: what Docker asked since the process began.
 */
export function localRoutes(
  agent: () => Agent | undefined,
  problem: () => Failure | undefined,
  plugin: () => PluginCounts | undefined,
): Routes {
  const joined = (): Agent => {
    const found = agent();
    const failure = problem();
    if (found === undefined) throw failure === undefined ? notJoined() : new OverlayError(failure);
    return found;
  };
  return {
    "GET /v1/status": bare(async () => {
      const found = agent();
      const rest = { plugin: plugin() };
      if (found === undefined) return { joined: false, problem: problem(), ...rest };
      return { ...(await statusOf(found)), ...rest };
    }),
    "POST /v1/probe": bare(() => joined().proving.probeAll()),
    "GET /v1/verify": bare(async () => ({ findings: await verify(joined()) })),
    "GET /v1/state": byQuery(["after"], async ({ after = "0" }) => ({
      state: joined().replication.stateAfter(revisionIn(after)),
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
      return found.exposing.expose(findNetwork(found, name).id);
    }),
    "DELETE /v1/networks/exposed": byQuery(["name"], async ({ name = "" }) => {
      const found = joined();
      await found.exposing.hide(findNetwork(found, name).id);
      return { hidden: true };
    }),
    "POST /v1/keys/rotate": byQuery(["node", "network"], (query) => rotateKeys(joined(), query)),
    "DELETE /v1/networks": byQuery(["name"], ({ name = "" }) => removeNetwork(joined(), name)),
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

async function createNetwork(agent: Agent, body: z.infer<typeof CreateBody>): Promise<unknown> {
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

async function removeNetwork(agent: Agent, name: string): Promise<unknown> {
  const { tables } = agent.replication;
  const network = findNetwork(agent, name);
  const names = nodeNames(agent, hostsNeeding(tables.hosts, network.id));
  if (names.length > 0)
    throw new OverlayError({
      code: "CONFLICT",
      message: `network ${name} is used on ${names.join(", ")}`,
      next: `remove its containers there, also stopped ones (\`docker ps -a --filter network=${name}\`), and \`overlay-ts network hide\` it; for a host that is gone for good, \`overlay-ts node rm\``,
    });
  const silent = nodeNames(agent, hostsPerhapsNeeding(tables.state, agent.lost(), network.id));
  if (silent.length > 0)
    throw new OverlayError({
      code: "CONFLICT",
      message: `network ${name} may be used on ${silent.join(", ")}, not reached from here`,
      next: "try again when it is reached; for a host that is gone for good, `overlay-ts node rm`",
    });
  await agent.controller.request({ v: 1, kind: "removeNetwork", network: network.id }, "done");
  return { removed: network.id };
}

/** Keys of the IPsec pairs with one host or all, or the gossip key of a network. */
async function rotateKeys(
  agent: Agent,
  { node, network }: { readonly node?: string; readonly network?: string },
): Promise<{ rotated: string[] }> {
  if (network !== undefined) {
    const { id } = findNetwork(agent, network);
    await agent.controller.request({ v: 1, kind: "rotateKey", network: id }, "done");
    return { rotated: [network] };
  }
  const { ipsec } = agent.encrypting;
  const id = node === undefined ? undefined : findNode(agent, node).id;
  const peers = (ipsec.status()?.peers ?? []).filter(
    (peer) => id === undefined || peer.node === id,
  );
  if (id !== undefined && peers.length === 0)
    throw new OverlayError({
      code: "NOT_FOUND",
      message: `this host has no IPsec keys with ${node}: they share no network of the kind \`ipsec\``,
      next: "see `overlay-ts status`",
    });
  ipsec.rotate(id);
  return { rotated: peers.map((peer) => nodeName(agent, peer.node)) };
}

function nodes(agent: Agent): unknown {
  const { state, hosts } = agent.replication.tables;
  const connected = new Set(agent.adapters.mesh.connections());
  const proven = new Map(agent.proving.results().map((result) => [result.node, result]));
  return (state?.nodes ?? []).map(({ id, name, address, index }) => ({
    id,
    name,
    address,
    index,
    self: id === agent.identity.node,
    controller: id === state?.controller.node,
    connected: id === agent.identity.node || connected.has(id),
    dataPathMs: proven.get(id)?.roundTripMs,
    networks: hosts.get(id)?.hosting.length ?? 0,
  }));
}

function networks(agent: Agent): unknown {
  return (agent.replication.tables.state?.networks ?? []).map((record) => network(agent, record));
}

function network(agent: Agent, record: NetworkRecord) {
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
async function inspect(agent: Agent, record: NetworkRecord): Promise<unknown> {
  const { tables, networks } = agent.replication;
  const here = agent.hosting.has(record.id);
  const lost = agent.lost();
  const rows = here ? nameRows(tables, record, lost) : [];
  const holders = Map.groupBy(rows, ({ name }) => name);
  return {
    ...network(agent, record),
    here,
    paths: here ? await pathsOf(agent, record) : undefined,
    inSync: here && networks.inSync(record.id),
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
async function pathsOf(agent: Agent, { id, encryption }: NetworkRecord): Promise<unknown> {
  if (encryption === "none") return undefined;
  const on = new Set(hostsOn(agent.replication.tables.hosts, id));
  const found = (await encryptionStatus(agent))[encryption];
  return found?.peers.filter(({ node }) => on.has(node));
}

/** Of the named network, or of all that this host is on. */
function names(agent: Agent, name: string | undefined): unknown {
  const { tables } = agent.replication;
  const wanted =
    name === undefined
      ? agent.hosting.hosted().flatMap((network) => agent.hosting.find(network) ?? [])
      : [findNetwork(agent, name)];
  return wanted.map((record) => {
    const here = agent.hosting.has(record.id);
    return {
      network: record.name ?? record.id,
      id: record.id,
      here,
      hosts: nodeNames(agent, hostsOn(tables.hosts, record.id)),
      names: here ? nameRows(tables, record, agent.lost()) : [],
    };
  });
}

/** Of the networks this host is on: it knows no others' containers. */
function endpoints(agent: Agent, name: string | undefined): unknown {
  const { tables } = agent.replication;
  const wanted = name === undefined ? undefined : findNetwork(agent, name).id;
  return agent.hosting
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
        names: endpoint.names ?? [],
        out: endpoint.out,
      }));
    });
}
