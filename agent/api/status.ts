import type { Failure } from "../shared/errors.ts";
import type { NetworkId, NodeId } from "../shared/ids.ts";
import { noCommonVersion } from "../shared/wire-version.ts";
import { neededUnderlayBytes, tooLargeFor } from "../shared/mtu.ts";
import type { Agent } from "./agent.ts";
import { type Ignored, readNetwork } from "./core/desired.ts";
import type { PluginCounts } from "./docker/plugin-counters.ts";
import type { DockerStatus } from "./docker-side.ts";
import { type EncryptionStatus, encryptionStatus } from "./encryption-status.ts";
import { type NamesStatus, namesStatus } from "./names-status.ts";
import type { NamingStatus } from "./naming.ts";
import type { ProofStatus } from "./proving.ts";
import type { PassStatus } from "./reconciler.ts";
import type { DiskStatus } from "./store/loss.ts";

/** What `overlay-ts status` shows of a joined host. */
export interface Status extends AgentStatus {
  /** Undefined: a host without an engine. */
  readonly plugin?: PluginCounts;
}

export interface AgentStatus {
  readonly joined: true;
  readonly node: NodeId;
  readonly name: string;
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
  readonly peers: readonly { node: NodeId; name: string; connected: boolean }[];
  readonly dataPath: readonly ProofStatus[];
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
  /** What Docker says of them; undefined: a host without an engine. */
  readonly naming: NamingStatus | undefined;
  readonly encryption: EncryptionStatus;
  readonly guards: {
    failure: Failure | undefined;
    dropped: Readonly<Record<string, number>>;
    /** Times that somebody else changed them, and they were put back. */
    tampered: number;
  };
  readonly disk: DiskStatus;
  readonly counters: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly memoryBytes: number;
}

/** Of a host that is no member, or whose agent cannot start. */
export interface NotRunning {
  readonly joined: false;
  readonly problem?: Failure;
  readonly plugin?: PluginCounts;
}

export interface NetworkStatus {
  readonly id: NetworkId;
  readonly name: string | undefined;
  readonly endpoints: number;
  readonly remotes: number;
  /** In use by containers here, or about to be. */
  readonly addresses: number;
  readonly inSync: boolean;
  readonly pass: PassStatus | undefined;
  /** Endpoints that some host claims and the rules do not allow. */
  readonly ignored: readonly Ignored[];
}

export async function statusOf(agent: Agent): Promise<AgentStatus> {
  const { replication, adapters, identity } = agent;
  const { tables } = replication;
  const { state } = tables;
  const connected = new Set(adapters.mesh.connections());
  const others = (state?.nodes ?? []).filter(({ id }) => id !== identity.node);
  return {
    joined: true,
    node: identity.node,
    name: state?.nodes.find(({ id }) => id === identity.node)?.name ?? identity.node,
    cluster: agent.membership.cluster,
    revision: state?.revision ?? 0,
    removed: agent.stillMember.failure(),
    controller: {
      address: state?.controller.address ?? "",
      port: state?.settings.ports.controller ?? 0,
      failure: agent.controller.failure(),
    },
    peers: others.map(({ id, name }) => ({ node: id, name, connected: connected.has(id) })),
    dataPath: agent.proving.results(),
    otherVersions: (await adapters.mesh.otherVersions()).map(({ node, versions }) => {
      const name = others.find(({ id }) => id === node)?.name ?? node;
      return { node, name, failure: noCommonVersion(name, versions).toFailure() };
    }),
    networks: agent.hosting.hosted().map((network) => networkStatus(agent, network)),
    tooLarge: tooLarge(agent),
    docker: agent.docker?.status(),
    names: await namesStatus(adapters.names),
    naming: agent.naming?.status(),
    encryption: await encryptionStatus(agent),
    guards: {
      failure: agent.guarding.failure(),
      dropped: await adapters.guards.counters(),
      tampered: agent.guarding.tampered(),
    },
    disk: agent.disk.status(),
    counters: {
      networks: { ...replication.networks.counters },
      cluster: { ...replication.cluster.counters },
      mesh: await adapters.mesh.counters(),
      events: agent.events.counters(),
    },
    memoryBytes: process.memoryUsage.rss(),
  };
}

function tooLarge(agent: Agent): Status["tooLarge"] {
  const { state } = agent.replication.tables;
  const underlay = state?.nodes.find(({ id }) => id === agent.identity.node)?.underlayMtuBytes;
  if (state === undefined || underlay === undefined) return [];
  return tooLargeFor(state, underlay).map((record) => ({
    id: record.id,
    name: record.name,
    needsUnderlayBytes: neededUnderlayBytes(state.settings, record),
  }));
}

function networkStatus(agent: Agent, network: NetworkId): NetworkStatus {
  const { tables, networks } = agent.replication;
  const record = tables.state?.networks.find(({ id }) => id === network);
  const reading = record === undefined ? { holders: [], ignored: [] } : readNetwork(tables, record);
  const own = agent.hosting.endpoints(network).length;
  return {
    id: network,
    name: record?.name,
    endpoints: own,
    remotes: reading.holders.filter(({ node }) => node !== agent.identity.node).length,
    addresses: agent.bindings.used(network).size,
    inSync: networks.inSync(network),
    pass: agent.reconciler.status(network),
    ignored: reading.ignored,
  };
}
