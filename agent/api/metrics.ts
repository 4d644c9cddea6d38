import { exposition } from "../../shared/exposition.ts";
import type { NetworkId } from "../../shared/ids.ts";
import { VERSION } from "../../shared/version.ts";
import { WIRE_VERSIONS } from "../../shared/wire-version.ts";
import type { AgentParts } from "../agent.ts";
import type { AddressesLeft } from "../core/ipam.ts";
import { isReached } from "../core/liveness/narrow-paths.ts";
import type { PluginCounts } from "../docker/plugin/counters.ts";
import type { MemberFacts, ProcessFacts } from "./metric-facts.ts";
import { familiesOf } from "./metric-families.ts";
import type { MetricsStatus } from "./metrics-listener.ts";
import { peerState } from "./peer-state.ts";
import { statusOf } from "./status.ts";

const CLASSES = ["none", "wireguard", "ipsec"] as const;

/** What is served of metrics beside this socket. */
export interface MetricsServed {
  readonly metrics: Pick<HostMetrics, "text">;
  /** Over TCP; undefined: nobody asked for it. */
  readonly listening: () => MetricsStatus | undefined;
}

/** This host's metrics: its agent's, and those of a controller that runs here, so that one look has both. */
export class HostMetrics {
  readonly #agent: () => AgentParts | undefined;
  readonly #plugin: () => PluginCounts | undefined;
  readonly #controllerHere: () => Promise<string>;
  #underWay: Promise<string> | undefined;

  /** @param controllerHere in the same format; nothing, where none runs or it does not say */
  constructor(
    agent: () => AgentParts | undefined,
    plugin: () => PluginCounts | undefined,
    controllerHere: () => Promise<string> = () => Promise.resolve(""),
  ) {
    this.#agent = agent;
    this.#plugin = plugin;
    this.#controllerHere = controllerHere;
  }

  /** Who asks while another one is answered gets the same: however many ask, the agent looks once at a time. */
  text(): Promise<string> {
    this.#underWay ??= this.#look().finally(() => (this.#underWay = undefined));
    return this.#underWay;
  }

  async #look(): Promise<string> {
    const agent = this.#agent();
    const [member, controller] = await Promise.all([
      agent === undefined ? undefined : memberFacts(agent),
      this.#controllerHere(),
    ]);
    const families = familiesOf({ process: processFacts(), member, plugin: this.#plugin() });
    return exposition(families) + controller;
  }
}

export function processFacts(): ProcessFacts {
  const { user, system } = process.cpuUsage();
  return {
    version: VERSION,
    wire: WIRE_VERSIONS.join(","),
    nodeVersion: process.versions.node,
    startedAtMs: performance.timeOrigin,
    residentBytes: process.memoryUsage.rss(),
    cpuSeconds: (user + system) / 1e6,
    loopActiveMs: performance.eventLoopUtilization().active,
  };
}

async function memberFacts(agent: AgentParts): Promise<MemberFacts> {
  return {
    status: await statusOf(agent),
    peers: peersOf(agent),
    probes: agent.dataPaths.probes(),
    passes: agent.reconciler.took(),
    addresses: addressesOf(agent),
  };
}

function peersOf({ replication, identity, dataPaths, reach }: AgentParts): MemberFacts["peers"] {
  const lost = reach.lost();
  const results = CLASSES.flatMap((encryption) => dataPaths.results(encryption));
  const byNode = Map.groupBy(results, ({ node }) => node);
  return (replication.tables.state?.nodes ?? [])
    .filter(({ id }) => id !== identity.node)
    .map(({ id, name, behindNat }) => ({
      name,
      state: peerState({
        isLost: lost.has(id),
        answers: (byNode.get(id) ?? []).map(isReached),
        isBehindNat: behindNat !== undefined,
      }),
    }));
}

function addressesOf(agent: AgentParts): Map<NetworkId, AddressesLeft> {
  const { replication, identity, localNetworks, ipam } = agent;
  const own = (replication.tables.state?.blocks ?? []).filter(({ node }) => node === identity.node);
  const blocks = Map.groupBy(own, ({ network }) => network);
  return new Map(
    localNetworks.hosted().flatMap((network) => {
      const record = localNetworks.find(network);
      if (record === undefined) return [];
      const left = record.subnets
        .map((subnet) => ipam.free(record, subnet, blocks.get(network) ?? []))
        .toSorted((a, b) => a.free - b.free);
      // A subnet of which this host has no block yet is not one with few left.
      const [least] = left.filter(({ total }) => total > 0);
      return least === undefined ? [] : [[network, least] as const];
    }),
  );
}
