import type { Failure } from "../../shared/errors.ts";
import type { NetworkDocument } from "../../shared/documents.ts";
import type { EndpointId, NetworkId, NodeId } from "../../shared/ids.ts";
import { noCommonVersion } from "../../shared/wire-version.ts";
import { neededUnderlayBytes, tooLargeFor } from "../../shared/mtu.ts";
import type { AgentParts } from "../agent.ts";
import type { Problem } from "../core/events/view.ts";
import { problemsOf } from "../events/view-sources.ts";
import { type Ignored, readNetwork } from "../core/data-plane/read-network.ts";
import { namesOf } from "../core/names/names.ts";
import { type Life, whyNoMember } from "../core/life.ts";
import type { PluginCounts } from "../docker/plugin/counters.ts";
import type { DockerStatus } from "../docker/network-sync.ts";
import { type EncryptionStatus, encryptionStatus } from "./encryption-status.ts";
import { nodeName } from "./look-up.ts";
import type { MetricsStatus } from "./metrics-listener.ts";
import { type NamesStatus, namesStatus } from "./names-status.ts";
import { type VipsStatus, vipsStatus } from "./vips-status.ts";
import type { NamingStatus } from "../docker/container-watcher.ts";
import type { ProofStatus } from "../membership/failure-detector.ts";
import type { PassStatus } from "../kernel/reconciler.ts";
import type { DiskStatus } from "../store/loss.ts";

/** What `overlay-ts status` shows of a joined host. */
export interface Status extends AgentStatus {
  /** Undefined: a host without an engine. */
  readonly plugin?: PluginCounts;
  /** Over TCP, where that was asked for. */
  readonly metrics?: MetricsStatus;
}

export interface AgentStatus {
  readonly joined: true;
  readonly node: NodeId;
  readonly name: string;
  /** Where it listens and sends. Absent of an agent of before. */
  readonly address?: string | undefined;
  readonly cluster: string;
  readonly revision: number;
  /** Of a host that was removed from the cluster. */
  readonly removed: Failure | undefined;
  readonly controller: {
    address: string;
    port: number;
    /** Why it decided nothing when this host asked it last. */
    failure: Failure | undefined;
  };
  readonly peers: readonly {
    node: NodeId;
    name: string;
    connected: boolean;
    /** A connection is kept from here; with other hosts of a large cluster there need be none. Absent of an agent of before. */
    dialled?: boolean;
  }[];
  /** In clear; what goes through a tunnel is in `encryption`. */
  readonly dataPath: readonly ProofStatus[];
  /** By name: members of 0.1.0. While there is one, changes of the state travel as the whole of it. */
  readonly needStateWhole: readonly string[];
  /** Hosts that speak no wire version of ours. */
  readonly otherVersions: readonly { node: NodeId; name: string; failure: Failure }[];
  readonly networks: readonly NetworkStatus[];
  /** Networks that this host cannot take part in: its underlay is too small for their packets. */
  readonly tooLarge: readonly {
    id: NetworkId;
    name: string | undefined;
    needsUnderlayBytes: number;
  }[];
  readonly docker: DockerStatus | undefined;
  readonly names: NamesStatus;
  /** Absent of an agent of before. */
  readonly virtualAddresses?: Omit<VipsStatus, "without"> & { readonly without: readonly string[] };
  /** What Docker says of them; undefined: a host without an engine. */
  readonly naming: NamingStatus | undefined;
  readonly encryption: EncryptionStatus;
  readonly guards: {
    failure: Failure | undefined;
    dropped: Readonly<Record<string, number>>;
    /** Times that somebody else changed them, and they were put back. */
    tampered: number;
  };
  /** Of networks' own ways out. Absent of an agent of before. */
  readonly egress?: {
    /** Containers here that leave by them; the others by docker_gwbridge, or not at all. */
    readonly containers: number;
    /** Why further ones would not, by family. */
    readonly blocked: { readonly ipv4: Failure | undefined; readonly ipv6: Failure | undefined };
    /** Packets, by why. */
    readonly dropped: Counts;
  };
  readonly disk: DiskStatus;
  /** Of everything that is tried again until it succeeds: why it does not. Absent of an agent of before. */
  readonly problems?: readonly Problem[];
  readonly counters: StatusCounters;
  readonly memoryBytes: number;
}

type Counts = Readonly<Record<string, number>>;

/** What was done since the agent's start. Bytes are payload, each message once. */
export interface StatusCounters {
  /** Of documents of networks, whole or as a delta: parsed, merged, refused and why, deltas that fit nothing (`gaps`), questions without an answer. */
  readonly networks: Counts;
  /** The same of the signed state and of what hosts say of themselves. */
  readonly cluster: Counts;
  /** `signatures` of documents, and signed `states`, that were checked. */
  readonly checked: Counts;
  /**
   * Messages, and bytes of these, in and out, by what they are for: gossip and comparisons of the cluster and of
   * networks, keys, the controller (`controllerIn`, `controllerInBytes` and so on); and the mesh's own.
   */
  readonly mesh: Counts;
  /**
   * Of all networks: `passes`, steps, forwarding entries dumped (`entriesRead`, and `entriesCompared` of these by whole
   * comparisons) and written; elements of guards' sets listed and written; `drifts`, which are faults of ours or writes
   * of others that no event told. A change of one container dumps nothing.
   */
  readonly kernel: Counts;
  /** Lines, and those that were dropped. */
  readonly events: Counts;
  /** `drifts`: what was told to the name server was not what documents say. */
  readonly names: Counts;
}

/** Of a host that is no member, or takes no part. */
export interface NotRunning {
  readonly joined: false;
  /** Absent of an agent of before. */
  readonly state?: Life["state"];
  /** Why a member takes no part, and what to do; absent of one that is just starting. */
  readonly problem?: Failure;
  readonly plugin?: PluginCounts;
  readonly metrics?: MetricsStatus;
}

export interface NetworkStatus {
  readonly id: NetworkId;
  readonly name: string | undefined;
  readonly endpoints: number;
  readonly remotes: number;
  /** In use by containers here, or about to be. */
  readonly addresses: number;
  /** All that others say of it was had since the start. */
  readonly inSync: boolean;
  /** No other host is on it, as far as is known. */
  readonly alone: boolean;
  readonly pass: PassStatus | undefined;
  /** Endpoints that some host claims and the rules do not allow. */
  readonly ignored: readonly IgnoredContainer[];
}

export interface IgnoredContainer extends Ignored {
  /** By its name in the cluster. */
  readonly host: string;
  /** The container's own name; absent where its host did not say one, or is of a version before. */
  readonly container?: string | undefined;
}

export function notRunning(life: Life): NotRunning {
  const { state } = life;
  const problem = state === "not-joined" || state === "starting" ? undefined : whyNoMember(life);
  return { joined: false, state, ...(problem === undefined ? {} : { problem }) };
}

export async function statusOf(agent: AgentParts): Promise<AgentStatus> {
  const { replication, adapters, identity } = agent;
  const { tables } = replication;
  const { state } = tables;
  const connected = new Set(adapters.mesh.connections());
  const others = (state?.nodes ?? []).filter(({ id }) => id !== identity.node);
  return {
    joined: true,
    node: identity.node,
    name: state?.nodes.find(({ id }) => id === identity.node)?.name ?? identity.node,
    address: adapters.ownAddress?.local,
    cluster: agent.membership.cluster,
    revision: state?.revision ?? 0,
    removed: agent.revocationCheck.failure(),
    controller: {
      address: state?.controller.address ?? "",
      port: state?.settings.ports.controller ?? 0,
      failure: agent.controller.failure(),
    },
    peers: others.map(({ id, name }) => ({
      node: id,
      name,
      connected: connected.has(id),
      dialled: replication.dials(id),
    })),
    dataPath: agent.dataPaths.results("none"),
    needStateWhole: replication.cluster
      .needWhole()
      .map((node) => state?.nodes.find(({ id }) => id === node)?.name ?? node),
    otherVersions: (await adapters.mesh.otherVersions().catch(() => [])).map(
      ({ node, versions }) => {
        const name = others.find(({ id }) => id === node)?.name ?? node;
        return { node, name, failure: noCommonVersion(name, versions).toFailure() };
      },
    ),
    networks: agent.localNetworks.hosted().map((network) => networkStatus(agent, network)),
    tooLarge: tooLarge(agent),
    docker: agent.networkSync?.status(),
    names: await namesStatus(adapters.names),
    virtualAddresses: virtualAddresses(agent),
    naming: agent.containerWatcher?.status(),
    encryption: await encryptionStatus(agent),
    guards: {
      failure: agent.guardReconciler.failure(),
      dropped: await adapters.guards.counters().catch(() => ({})),
      tampered: agent.guardReconciler.tampered(),
    },
    egress: {
      containers: agent.sandboxWays.byTransit(),
      blocked: {
        ipv4: adapters.egress.blocked(4) ?? agent.transitSlots.failure(),
        ipv6: adapters.egress.blocked(6),
      },
      dropped: await adapters.egress.counters().catch(() => ({})),
    },
    disk: agent.disk.status(),
    problems: problemsOf(agent),
    counters: {
      networks: { ...replication.networks.counters },
      cluster: { ...replication.cluster.counters },
      checked: { ...replication.checked },
      mesh: {
        ...(await adapters.mesh.counters().catch(() => ({}))),
        ...adapters.control.counts(),
      },
      kernel: kernelCounters(agent),
      events: agent.events.counters(),
      names: agent.nameServerFeed.counters(),
    },
    memoryBytes: process.memoryUsage.rss(),
  };
}

function virtualAddresses(agent: AgentParts): NonNullable<Status["virtualAddresses"]> {
  const { adapters, replication } = agent;
  const { without, ...rest } = vipsStatus(adapters.balancing, replication.tables);
  return { ...rest, without: without.map((node) => nodeName(agent, node)).toSorted() };
}

function kernelCounters({ reconciler, guardReconciler }: AgentParts): Counts {
  const { drifts, ...totals } = reconciler.totals();
  const guards = guardReconciler.work();
  return {
    ...totals,
    guardElementsRead: guards.read,
    guardElementsWritten: guards.written,
    drifts: drifts + guards.drifts,
  };
}

function tooLarge(agent: AgentParts): Status["tooLarge"] {
  const { state } = agent.replication.tables;
  const underlay = state?.nodes.find(({ id }) => id === agent.identity.node)?.underlayMtuBytes;
  if (state === undefined || underlay === undefined) return [];
  return tooLargeFor(state, underlay).map((record) => ({
    id: record.id,
    name: record.name,
    needsUnderlayBytes: neededUnderlayBytes(state.settings, record),
  }));
}

function containerName(
  document: NetworkDocument | undefined,
  endpoint: EndpointId,
): string | undefined {
  const found = document?.endpoints.find(({ id }) => id === endpoint);
  return found === undefined ? undefined : namesOf(found)[0];
}

function networkStatus(agent: AgentParts, network: NetworkId): NetworkStatus {
  const { tables } = agent.replication;
  const record = tables.state?.networks.find(({ id }) => id === network);
  const reading = record === undefined ? { holders: [], ignored: [] } : readNetwork(tables, record);
  const own = agent.localNetworks.endpoints(network).length;
  return {
    id: network,
    name: record?.name,
    endpoints: own,
    remotes: reading.holders.filter(({ node }) => node !== agent.identity.node).length,
    addresses: agent.leases.of(network).size,
    ...agent.replication.standing(network),
    pass: agent.reconciler.status(network),
    // Of hosts that were removed, or left, nothing is believed: that is no news, and nothing to be done.
    ignored: reading.ignored
      .filter(({ reason }) => reason !== "not-admitted" && reason !== "not-hosting")
      .map((one) => ({
        ...one,
        host: nodeName(agent, one.node),
        container: containerName(tables.documents(network).get(one.node), one.endpoint),
      })),
  };
}
