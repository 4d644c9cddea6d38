import { nextAddress } from "../../agent/core/ipam.ts";
import { ownFacts } from "../../agent/core/tables/own-facts.ts";
import { Tables } from "../../agent/core/tables/tables.ts";
import { SavedTables } from "../../agent/replication/saved-tables.ts";
import { Bindings } from "../../agent/networks/bindings.ts";
import { Leases } from "../../agent/networks/leases.ts";
import { JoinedSandboxes } from "../../agent/names/joined-sandboxes.ts";
import { Disk } from "../../agent/store/disk.ts";
import { allotBlock } from "../../controller/core/blocks.ts";
import type { ControllerRecord } from "../../controller/core/record.ts";
import type { BlockRecord, NetworkRecord } from "../../shared/cluster-state.ts";
import { hex } from "../../shared/codec.ts";
import {
  endpointsHash,
  familiesOf,
  type HostDocument,
  hostSigningBytes,
  type NetworkDocument,
  networkSigningBytes,
  sortEndpoints,
} from "../../shared/documents.ts";
import { EndpointId, type NetworkId } from "../../shared/ids.ts";
import { familyOf, type Ip } from "../../shared/ip.ts";
import { derivedMacs } from "../../shared/mac.ts";
import { type Container, sandboxOf, shownAs } from "./container.ts";
import type { SimHost } from "./sim-host.ts";
import { oneShotSha256 } from "./stand-ins.ts";
import type { World } from "./world.ts";

/** Of the first network, so that one change is heard by many. */
const WIDE_HOSTS = 50;
/** Hosts that are on many networks, whose idle control plane is measured. */
const BUSY_HOSTS = 10;
const BUSY_NETWORKS = 10;
const FIRST = { incarnation: 1, seq: 1 };

interface Placed {
  readonly host: SimHost;
  readonly network: NetworkRecord;
  readonly containers: readonly Container[];
}

/**
 * A cluster as it stands after weeks: containers run, their blocks are given, and each host has on its disk what the others
 * say, signed by them. Nobody joins and nothing is told: a thousand hosts begin where they would be long after.
 */
export function preload(world: World, record: ControllerRecord): ControllerRecord {
  const placed: Placed[] = [];
  const blocks: BlockRecord[] = [];
  const { networks } = record.state;
  const { endpoints, nodes } = world.options;
  const atHome = Math.max(1, Math.round(endpoints / nodes / 2));
  for (const [i, network] of networks.entries()) {
    const on = world.hosts.filter(({ k }) => placesOf(k, networks.length).has(i));
    const count = ({ k }: SimHost): number => (homesOf(k, networks.length).has(i) ? atHome : 1);
    const given = blocksOn(record, network, on);
    blocks.push(...given);
    for (const host of on)
      placed.push({ host, network, containers: run(world, host, network, given, count(host)) });
  }
  const { state } = record;
  const loaded = { ...record, state: { ...state, blocks, revision: state.revision + 1 } };
  fillDisks(world, placed, loaded.state);
  return loaded;
}

/** The two of each host that containers start on later as well (`chaos.ts`). */
function homesOf(k: number, networks: number): ReadonlySet<number> {
  return new Set([k, k * 7 + 3].map((at) => at % networks));
}

function placesOf(k: number, networks: number): ReadonlySet<number> {
  const busy = k <= BUSY_HOSTS ? Array.from({ length: BUSY_NETWORKS }, (_, i) => i) : [];
  const wide = k <= WIDE_HOSTS ? [0] : [];
  return new Set([...homesOf(k, networks), ...[...busy, ...wide].map((at) => at % networks)]);
}

/** A block of each family for each host. Others' blocks of other networks are none of the decision's business. */
function blocksOn(
  record: ControllerRecord,
  network: NetworkRecord,
  on: readonly SimHost[],
): readonly BlockRecord[] {
  const { state } = record;
  let alone: ControllerRecord = { ...record, state: { ...state, networks: [network], blocks: [] } };
  for (const { node } of on)
    for (const { subnet } of network.subnets)
      alone = allotBlock(alone, node, network.id, familyOf(subnet)).record;
  return alone.state.blocks;
}

function run(
  world: World,
  host: SimHost,
  network: NetworkRecord,
  blocks: readonly BlockRecord[],
  count: number,
): Container[] {
  const { random, monitor } = world;
  const used = new Set<Ip>();
  return Array.from({ length: count }, () => {
    const ips = network.subnets.flatMap((subnet) => {
      const ip = nextAddress(host.node, subnet, blocks, used, undefined);
      return ip === undefined ? [] : [ip];
    });
    for (const ip of ips) used.add(ip);
    const id = EndpointId.parse(hex(random.bytes(8)));
    const names = [`c${id.slice(0, 6)}`, id.slice(0, 12)];
    const container: Container = {
      id,
      network: network.id,
      ips,
      mac: derivedMacs(ips[0]!)[0],
      names,
      startedAtMs: 0,
      out: undefined,
    };
    host.containers.set(id, container);
    monitor.addressGiven(host, network, ips);
    monitor.started(host, container);
    return container;
  });
}

function fillDisks(
  world: World,
  placed: readonly Placed[],
  state: ControllerRecord["state"],
): void {
  const tables = new Tables();
  tables.mergeState(state);
  const words = world.hosts.map((host) => {
    const hosting = placed.filter((one) => one.host === host).map(({ network }) => network.id);
    return wordOf(world, host, tables, hosting);
  });
  const documents = new Map<NetworkId, NetworkDocument[]>();
  for (const one of placed) {
    const held = documents.get(one.network.id) ?? [];
    documents.set(one.network.id, [...held, documentOf(world, one)]);
  }
  for (const [i, { disk: of, containers }] of world.hosts.entries()) {
    const disk = new Disk(of);
    const saved = new SavedTables(disk);
    for (const word of words) saved.saveHost(word);
    for (const network of words[i]!.hosting)
      for (const document of documents.get(network) ?? []) saved.saveDocument(document);
    const [leases, bindings, joined] = [
      new Leases(disk),
      new Bindings(disk),
      new JoinedSandboxes(disk),
    ];
    for (const { id, network, ips } of containers.values()) {
      for (const ip of ips) leases.reserve(network, ip);
      if (bindings.network(shownAs(network)) === undefined)
        bindings.bind(shownAs(network), network);
      joined.put({ endpoint: id, network, path: sandboxOf(id) });
    }
  }
}

function wordOf(
  { keys }: World,
  { node, bootId }: SimHost,
  tables: Tables,
  hosting: readonly NetworkId[],
): HostDocument {
  const { wireguardKey: _, ...facts } = ownFacts(tables, node, bootId, undefined)!;
  const networks = hosting.toSorted();
  const word = { node, version: FIRST, ...facts, hosting: networks, needs: networks };
  return { ...word, signature: keys.signer(node).sign(hostSigningBytes(word)) };
}

function documentOf({ keys }: World, { host, network, containers }: Placed): NetworkDocument {
  const { node } = host;
  const endpoints = sortEndpoints(
    containers.map(({ id, ips, mac, names }) => ({
      id,
      mac,
      names: [...names],
      ...familiesOf(ips),
    })),
  );
  const hash = endpointsHash(oneShotSha256, endpoints);
  const bytes = networkSigningBytes(network.id, node, FIRST, hash);
  const signature = keys.signer(node).sign(bytes);
  return { network: network.id, node, version: FIRST, endpoints, signature };
}
