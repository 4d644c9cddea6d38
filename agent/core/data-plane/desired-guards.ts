import type { ClusterState, NetworkRecord, SecurityClass } from "../../../shared/cluster-state.ts";
import { addressesOf } from "../../../shared/documents.ts";
import type { NetworkId, NodeId, Vni } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import { vtepsOf } from "./desired-network.ts";
import type { DesiredGuards, SpeakerGroup } from "./kernel-state.ts";
import { type Reading, readNetwork } from "./read-network.ts";
import { sealedSubnets } from "./sealed.ts";
import type { FormerVteps } from "./vtep-moves.ts";
import { admittedHosts, directHosts } from "../tables/admitted.ts";
import { takesPart } from "../tables/hosts.ts";
import { recordOf } from "../../../shared/records.ts";
import type { Tables } from "../tables/tables.ts";

const NO_FORMER: FormerVteps = new Map();

/**
 * What guards let in, for the networks of these classes: admitted VTEPs, who hosts which VNI, who speaks
 * for which container. A host that changes over may speak from its former VTEP as well as from the signed one: what
 * hears of it first does not cut off what hears of it last.
 */
export function desiredGuards(
  tables: Tables,
  self: NodeId,
  classes: readonly SecurityClass[],
  former: FormerVteps = NO_FORMER,
): DesiredGuards | undefined {
  const { state } = tables;
  if (state === undefined) return undefined;
  const hosts = hostsLetIn(tables, state, self, classes, former);
  const [speakers, exposed]: [SpeakerGroup[], SpeakerGroup[]] = [[], []];
  for (const network of tables.documented()) {
    const record = recordOf(state, network);
    if (record === undefined || !classes.includes(record.encryption)) continue;
    for (const group of speakersOf(readNetwork(tables, record), record, hosts))
      speakers.push(group);
    const own = tables.documents(network).get(self)?.endpoints ?? [];
    const members = own
      .filter(({ role }) => role === "host")
      .map((endpoint) => ({ mac: endpoint.mac, ips: addressesOf(endpoint) }));
    if (members.length > 0)
      for (const vtep of hosts.own) exposed.push({ vtep, vni: record.vni, members });
  }
  const { vxlanPlain, vxlanWireguard, vxlanIpsec, gossip, controller } = state.settings.ports;
  return {
    underlayFamily: state.settings.underlayFamily,
    classPorts: { plain: vxlanPlain, wireguard: vxlanWireguard, ipsec: vxlanIpsec },
    meshPorts: [gossip, controller],
    ipsec: classes.includes("ipsec"),
    vteps: hosts.all,
    hosting: hosts.hosting,
    speakers,
    exposed,
    sealed: sealedSubnets(tables, self),
  };
}

/** What follows from the state and from what hosts say of themselves, and is the same from one container to the next. */
interface HostsLetIn {
  readonly state: ClusterState;
  readonly hosts: object;
  readonly self: NodeId;
  readonly former: FormerVteps;
  readonly own: readonly Ip[];
  /** Of others. */
  readonly vteps: ReadonlyMap<NodeId, readonly Ip[]>;
  readonly all: readonly Ip[];
  readonly hosting: DesiredGuards["hosting"];
  /** Others of whom `hosting` has the network. */
  readonly on: ReadonlyMap<NetworkId, ReadonlySet<NodeId>>;
  /** By network, while it is read as the same. */
  readonly speakers: Map<
    NetworkId,
    { readonly reading: Reading; readonly groups: readonly SpeakerGroup[] }
  >;
}

const letIn = new WeakMap<Tables, Map<string, HostsLetIn>>();

function hostsLetIn(
  tables: Tables,
  state: ClusterState,
  self: NodeId,
  classes: readonly SecurityClass[],
  former: FormerVteps,
): HostsLetIn {
  let ofTables = letIn.get(tables);
  if (ofTables === undefined) letIn.set(tables, (ofTables = new Map()));
  const key = classes.join();
  const kept = ofTables.get(key);
  const isSame = kept?.state === state && kept.hosts === tables.hostsVersion;
  if (isSame && kept.self === self && kept.former === former) return kept;
  const signed = vtepsOf((classes.includes("wireguard") ? admittedHosts : directHosts)(state));
  const vteps = new Map(
    [...signed].map(([node, vtep]) => [node, [vtep, ...(former.get(node) ?? [])]]),
  );
  const own = vteps.get(self) ?? [];
  vteps.delete(self);
  const all = [...vteps.values()].flat();
  const hosting: { vtep: Ip; vni: Vni }[] = [];
  const on = new Map<NetworkId, Set<NodeId>>();
  for (const [node, from] of vteps)
    for (const network of tables.hosts.get(node)?.hosting ?? []) {
      const record = recordOf(state, network);
      if (record === undefined || !classes.includes(record.encryption)) continue;
      if (!takesPart(tables, node, network)) continue;
      for (const vtep of from) hosting.push({ vtep, vni: record.vni });
      on.set(network, (on.get(network) ?? new Set()).add(node));
    }
  const { hostsVersion: hosts } = tables;
  const made = { state, hosts, self, former, own, vteps, all, hosting, on, speakers: new Map() };
  ofTables.set(key, made);
  return made;
}

/** Of hosts in `hosting` alone: the rules let a speaker in without another look. */
function speakersOf(
  reading: Reading,
  { id, vni }: NetworkRecord,
  { vteps, on, speakers }: HostsLetIn,
): readonly SpeakerGroup[] {
  const kept = speakers.get(id);
  if (kept?.reading === reading) return kept.groups;
  const groups = reading.byHost.flatMap(({ node, addressed: members }) =>
    members.length === 0 || on.get(id)?.has(node) !== true
      ? []
      : (vteps.get(node) ?? []).map((vtep) => ({ vtep, vni, members })),
  );
  speakers.set(id, { reading, groups });
  return groups;
}
