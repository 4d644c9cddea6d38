import type { DesiredGuards } from "../../agent/core/data-plane/kernel-state.ts";
import { desiredGuards } from "../../agent/core/data-plane/desired-guards.ts";
import type { BlockRecord, ClusterState, NetworkRecord } from "../../shared/cluster-state.ts";
import { hex } from "../../shared/codec.ts";
import type { NetworkId } from "../../shared/ids.ts";
import { cidrContains, familyOf, type Ip, prefixLength } from "../../shared/ip.ts";
import { linkLocalOf } from "../../shared/mac.ts";
import { rootText } from "../../shared/state/head.ts";
import { ObjectTree } from "../../shared/state/object-tree.ts";
import { objectsOf } from "../../shared/state/objects.ts";
import { oneShotSha256 } from "./stand-ins.ts";
import type { SimAgent } from "./sim-agent.ts";
import type { SimHost } from "./sim-host.ts";
import { checkNames, checkServed, type Live, reaches } from "./truth-names.ts";
import { checkServices } from "./truth-services.ts";
import type { World } from "./world.ts";

const MAX_FAULTS = 12;

/**
 * What must be so when all is quiet, computed from what Docker runs and what the controller decided,
 * never by the code under test: tables, kernels, guards and names of every member are compared with it.
 * Returns what is not so.
 */
export function differences(world: World): string[] {
  const found: string[] = [];
  const { state } = world.controller.record;
  const members = world.hosts.filter(({ node }) => state.nodes.some(({ id }) => id === node));
  // A liar's own tables and kernel are its own affair.
  const honest = members.flatMap(({ agent, lies }) => (lies || agent === undefined ? [] : [agent]));
  const note = (text: string): void => {
    if (found.length < MAX_FAULTS) found.push(text);
  };
  for (const host of members)
    if (host.powered && host.agent === undefined) note(`h${host.k} has no agent`);
  agreeOnCluster(world, honest, note);
  const believed = new Map<NetworkId, readonly Live[]>();
  for (const record of state.networks) {
    const on = honest.filter(({ localNetworks }) => localNetworks.has(record.id));
    const live = liveOn(state, record, members, on, note);
    believed.set(record.id, live);
    // Who is on a network tells of it, nobody else: cut apart for good, they cannot agree.
    if (!areLinked(world, on)) continue;
    agreeOnNetwork(world, record.id, on, members, note);
    for (const agent of honest) {
      checkKernel(world, agent, record, live, note);
      if (!agent.localNetworks.has(record.id)) continue;
      checkNames(world, agent, record, live, note);
      checkServices(world, agent, record, live, note);
    }
    noAddressTwice(record, live, note);
  }
  const known = new Set<string>(state.networks.map(({ id }) => id));
  for (const agent of honest) {
    for (const network of agent.host.kernel.listNow())
      if (!known.has(network)) note(`h${agent.host.k}'s kernel has ended network ${network}`);
    checkGuards(world, agent, members, honest, believed, note);
    checkServed(agent, known, note);
  }
  return found;
}

function areLinked({ network }: World, agents: readonly SimAgent[]): boolean {
  const reached = new Set(agents.slice(0, 1));
  for (const from of reached)
    for (const to of agents) if (network.bothWays(from.host, to.host)) reached.add(to);
  return reached.size === agents.length;
}

function agreeOnCluster(world: World, agents: readonly SimAgent[], note: (text: string) => void) {
  const { state } = world.controller.record;
  const [first] = agents;
  // Hashed from the beginning: what was kept of hashes from change to change led to the same.
  if (world.controller.head().root !== rootText(ObjectTree.of(objectsOf(state), oneShotSha256)))
    note("the controller's head is not over its state's objects");
  for (const { tables, host } of agents) {
    if (tables.state?.revision !== state.revision)
      note(`h${host.k} has revision ${tables.state?.revision}, the controller ${state.revision}`);
    for (const { id } of state.nodes) {
      const [mine, other] = [tables, first!.tables].map(({ hosts }) => hosts.get(id));
      if (mine === undefined) {
        if (world.hostOf(id)?.powered === true) note(`h${host.k} has no word of ${id}`);
      } else if (other === undefined || hex(mine.signature) !== hex(other.signature))
        note(`h${host.k} and h${first!.host.k} have other words of ${id}`);
    }
    for (const id of tables.hosts.keys())
      if (!world.wasMember(id)) note(`h${host.k} keeps the word of a stranger`);
  }
}

/**
 * Documents of one network: the same everywhere, and of members alone. What is kept of a host that has left
 * is read by nobody, and may differ.
 */
function agreeOnNetwork(
  world: World,
  network: NetworkId,
  agents: readonly SimAgent[],
  members: readonly SimHost[],
  note: (text: string) => void,
): void {
  const [first] = agents;
  for (const { tables, host } of agents) {
    const documents = tables.documents(network);
    for (const { node, k } of members) {
      if (tables.hosts.get(node)?.hosting.includes(network) !== true) continue;
      const [mine, other] = [documents, first!.tables.documents(network)].map((held) =>
        held.get(node),
      );
      if ((mine && hex(mine.signature)) !== (other && hex(other.signature)))
        note(`h${host.k} and h${first!.host.k} hold other documents of h${k} on ${network}`);
      if (JSON.stringify(mine?.endpoints) !== JSON.stringify(other?.endpoints))
        note(`h${host.k} and h${first!.host.k} hold other endpoints of h${k} on ${network}`);
    }
    for (const node of documents.keys())
      if (!world.wasMember(node)) note(`h${host.k} keeps a document of a stranger`);
  }
}

/**
 * By Docker. Of a machine that is off, the last that anybody heard: its containers may run again any moment.
 * Of that and of a liar's words what they may say, which is anything of their own addresses.
 */
function liveOn(
  { blocks }: ClusterState,
  record: NetworkRecord,
  members: readonly SimHost[],
  on: readonly SimAgent[],
  note: (text: string) => void,
): Live[] {
  const all = members.flatMap((host): Live[] => {
    if (host.powered && !host.lies)
      return [...host.containers.values()]
        .filter(({ network }) => network === record.id)
        .map((container) => ({ ...container, host }));
    const [witness] = on;
    if (witness?.tables.hosts.get(host.node)?.hosting.includes(record.id) !== true) return [];
    const said = witness.tables.documents(record.id).get(host.node)?.endpoints ?? [];
    if (said.length > 64) note(`h${host.k} said too much`);
    const live = said.map(({ id, ipv4, ipv6, mac, names = [], out }): Live => {
      const ips = [ipv4, ipv6].filter((ip) => ip !== undefined);
      return { id, host, ips, mac, names, out };
    });
    return live.filter((endpoint) => mayBeSaid(blocks, record, endpoint));
  });
  return firstOfEach(record, all);
}

/**
 * Of each MAC the one whose address derives it, of others the first, by host; the gateway's is nobody's. Of what
 * a host says of one address the same.
 */
function firstOfEach(record: NetworkRecord, live: readonly Live[]): Live[] {
  const sorted = live.toSorted((a, b) => (a.host.node < b.host.node ? -1 : 1));
  const derives = ({ mac, ips: [ip = "" as Ip] }: Live): boolean =>
    ["02:42", "02:44"].some((prefix) => mac === `${prefix}:${octetsOf(ip)}`);
  const taken = new Set<string>(record.subnets.map(({ gateway }) => `02:42:${octetsOf(gateway)}`));
  return [...sorted.filter(derives), ...sorted.filter((one) => !derives(one))].filter(
    ({ host, mac, ips }) => {
      const keys = [mac, ...ips.map((ip) => `${host.node} ${ip}`)];
      const free = keys.every((key) => !taken.has(key));
      if (free) for (const key of keys) taken.add(key);
      return free;
    },
  );
}

function octetsOf(ip: Ip): string {
  const hexOf = (part: string): string => Number(part).toString(16).padStart(2, "0");
  return ip.split(".").map(hexOf).join(":");
}

/** The rules of reading, said once more. */
function mayBeSaid(
  blocks: readonly BlockRecord[],
  record: NetworkRecord,
  { host, ips }: Live,
): boolean {
  return ips.every((ip) => {
    const around = blocks
      .filter(({ network, block }) => network === record.id && cidrContains(block, ip))
      .toSorted((a, b) => prefixLength(b.block) - prefixLength(a.block));
    return around[0]?.node === host.node && record.subnets.every(({ gateway }) => gateway !== ip);
  });
}

function noAddressTwice(
  record: NetworkRecord,
  live: readonly Live[],
  note: (text: string) => void,
): void {
  const holders = new Map<Ip, Live>();
  for (const endpoint of live.filter(({ host }) => !host.lies))
    for (const ip of endpoint.ips) {
      const other = holders.get(ip);
      if (other !== undefined)
        note(`${ip} of ${record.name} is held on h${other.host.k} and h${endpoint.host.k}`);
      holders.set(ip, endpoint);
    }
}

/** All that a container may speak from: with IPv6 also the link-local address of its MAC. */
function spoken({ ips, mac }: Pick<Live, "ips" | "mac">): readonly Ip[] {
  return ips.some((ip) => familyOf(ip) === 6) ? [...ips, linkLocalOf(mac)] : ips;
}

function checkKernel(
  world: World,
  { host, tables }: SimAgent,
  record: NetworkRecord,
  live: readonly Live[],
  note: (text: string) => void,
): void {
  const actual = host.kernel.readNow(record.id);
  // What runs here has its port, also where others believe somebody else; then that one has no entry here.
  const own = [...host.containers.values()].filter(({ network }) => network === record.id);
  const taken = new Set<string>(own.flatMap(({ mac, ips }) => [mac, ...ips]));
  const at = `h${host.k}'s kernel on ${record.name}`;
  if (own.length === 0) {
    if (actual.present) note(`${at} is there, and nothing runs`);
    return;
  }
  const others = live.filter(
    ({ host: owner, mac, ips }) =>
      owner !== host && ![mac, ...ips].some((claimed) => taken.has(claimed)),
  );
  const set = (items: readonly string[]): string => [...new Set(items)].toSorted().join(" ");
  // With nobody else of the network to be reached, what the kernel holds beyond that stands.
  const partners = world.hosts.filter((other) => other !== host && hostsSay(tables, other, record));
  const mayHoldMore = partners.length > 0 && !partners.some((other) => reaches(world, host, other));
  const compare = (what: string, is: readonly string[], should: readonly string[]): void => {
    const held = mayHoldMore ? is.filter((item) => should.includes(item)) : is;
    if (set(held) !== set(should)) note(`${at}: ${what} ${set(is)}, should be ${set(should)}`);
  };
  const vteps = world.controller.record.state.nodes;
  const vtepOf = (other: SimHost): string => vteps.find(({ id }) => id === other.node)?.vtep ?? "?";
  compare(
    "ports",
    actual.ports.map(({ endpoint, mac, ips }) => `${endpoint} ${mac} ${set(ips)}`),
    own.map((endpoint) => `${endpoint.id} ${endpoint.mac} ${set(spoken(endpoint))}`),
  );
  compare(
    "FDB",
    actual.vxlanFdb.map(({ mac, vtep }) => `${mac}@${vtep}`),
    others.map((endpoint) => `${endpoint.mac}@${vtepOf(endpoint.host)}`),
  );
  compare(
    "bridge FDB",
    actual.bridgeFdb,
    others.map(({ mac }) => mac),
  );
  compare(
    "neighbours",
    actual.neighbours.map(({ ip, mac }) => `${ip}@${mac}`),
    others.flatMap((endpoint) => spoken(endpoint).map((ip) => `${ip}@${endpoint.mac}`)),
  );
  compare("flood", actual.flood, record.multicast ? partners.map(vtepOf) : []);
  const { device } = actual;
  const shape = [device?.vni, device?.udpPort, device?.localVtep, device?.mtuBytes].join();
  const should = [record.vni, 7948, vtepOf(host), record.mtuBytes].join();
  if (shape !== should) note(`${at}: device ${shape}, should be ${should}`);
  compare(
    "gateways",
    (device?.gateways ?? []).map(({ ip, prefixLength }) => `${ip}/${prefixLength}`),
    record.subnets.map(({ gateway, subnet }) => `${gateway}/${prefixLength(subnet)}`),
  );
}

/**
 * That it is on the network: powered and honest, if anything runs. A liar's word is not to be known from
 * what it runs, and a machine that is off said its last; on these all agree.
 */
function hostsSay(tables: SimAgent["tables"], other: SimHost, record: NetworkRecord): boolean {
  if (other.powered && !other.lies)
    return [...other.containers.values()].some(({ network }) => network === record.id);
  return tables.hosts.get(other.node)?.hosting.includes(record.id) === true;
}

function checkGuards(
  world: World,
  { host, localNetworks, tables }: SimAgent,
  members: readonly SimHost[],
  honest: readonly SimAgent[],
  believed: ReadonlyMap<NetworkId, readonly Live[]>,
  note: (text: string) => void,
): void {
  const guards: DesiredGuards | undefined = desiredGuards(tables, host.node, ["none"]);
  const should = members.filter((other) => other !== host).map(({ address }) => address);
  const is = guards?.vteps ?? [];
  if (is.toSorted().join() !== should.toSorted().join())
    note(`h${host.k} lets ${is.join(" ")} in, should be ${should.join(" ")}`);
  // Whom it lets speak for whom: of honest hosts that are on, exactly what runs and is believed.
  const { networks } = world.controller.record.state;
  const here = networks.filter(({ id }) => localNetworks.has(id));
  for (const agent of honest) {
    if (agent.host === host || !world.network.bothWays(host, agent.host)) continue;
    const speaks = (guards?.speakers ?? [])
      .filter(({ vtep, vni }) => vtep === agent.host.address && here.some((n) => n.vni === vni))
      .flatMap(({ vni, members }) =>
        members.flatMap(({ mac, ips }) => ips.map((ip) => `${vni} ${mac} ${ip}`)),
      );
    const runs = here.flatMap(({ id, vni }) =>
      (believed.get(id) ?? [])
        .filter((endpoint) => endpoint.host === agent.host)
        .flatMap((container) => spoken(container).map((ip) => `${vni} ${container.mac} ${ip}`)),
    );
    if (speaks.toSorted().join() !== runs.toSorted().join())
      note(
        `h${host.k} lets h${agent.host.k} speak for ${speaks.join(", ")}, runs ${runs.join(", ")}`,
      );
  }
}
