import { CLUSTER_TOPIC } from "../../agent/replication/request-kinds.ts";
import { costOfOneStart, type StartCost } from "./one-start.ts";
import type { SimAgent } from "./sim-agent.ts";
import { Simulation } from "./simulation.ts";
import { optionsOf } from "./sizes.ts";

/** Gossip's last copies, and what is asked for because something did not come by itself. */
const HEARD_MS = 1000;
const MINUTE_MS = 60_000;
const BUSY_HOSTS = 10;

/** What a block that was given to some host cost another one. */
export interface BlockCost {
  readonly host: number;
  /** Of the network that the block is of. */
  readonly isOn: boolean;
  /** The block, and what some host gave back or needed meanwhile. */
  readonly revisions: number;
  /** Of the cluster's topic, each once. */
  readonly messages: number;
  readonly messageBytes: number;
  readonly copies: number;
  readonly copiedBytes: number;
  readonly asked: number;
  readonly signatures: number;
  readonly states: number;
  readonly parsed: number;
}

/** A minute of a host on ten networks, in which nothing happens. */
export interface IdleCost {
  readonly host: number;
  /** Of the control plane, both ways, as payload. */
  readonly messages: number;
  readonly bytes: number;
  readonly signatures: number;
  readonly passes: number;
  readonly written: number;
}

export interface Budgets {
  readonly failures: readonly string[];
  readonly block: readonly BlockCost[];
  readonly start: readonly StartCost[];
  readonly idle: readonly IdleCost[];
}

/** A cluster that was at rest long before: a minute of nothing, one block more, one container more. */
export async function budgetsOf(hosts: number, networks: number): Promise<Budgets> {
  const endpoints = hosts * 10;
  const size = { nodes: hosts, networks, endpoints, preloaded: true };
  const simulation = new Simulation(optionsOf(1, size));
  const restless = await simulation.restsUndisturbed();
  const idle = await idleMinute(simulation);
  const start = await costOfOneStart(simulation);
  const block = await blockGiven(simulation);
  return {
    failures: [...simulation.monitor.violations, ...(restless === undefined ? [] : [restless])],
    block,
    start: start ?? [],
    idle,
  };
}

/** The small cluster that others' idle control plane is compared with. */
export const SMALL = { hosts: 10, networks: 10 };
const MOST_MESSAGE_BYTES = 1024;
const MOST_IDLE_BYTES = 64 * 1024;

/** What costs more than it may, in words; `small`: of ten hosts. */
export function tooDear({ block, start, idle, failures }: Budgets, small: Budgets): string[] {
  const found = [...failures];
  const most = (what: string, is: number, may: number): void => {
    if (is > may) found.push(`${what}: ${is}, at most ${may}`);
  };
  if (block.length === 0 || start.length === 0 || idle.length === 0)
    found.push("nothing was measured: no block was given, or no container started");
  for (const cost of block) {
    const at = `a block given, at h${cost.host}:`;
    most(`${at} bytes of gossip`, cost.messageBytes, MOST_MESSAGE_BYTES * cost.revisions);
    most(`${at} bytes of all copies`, cost.copiedBytes, MOST_MESSAGE_BYTES * cost.copies);
    most(`${at} whole states checked`, cost.states, 0);
    most(`${at} signatures`, cost.signatures, cost.revisions);
    most(`${at} changes parsed`, cost.parsed, cost.revisions);
  }
  // Gossip reaches nearly all of many hosts; the others ask for what they missed.
  const heard = block.filter(({ parsed }) => parsed > 0).length;
  if (heard < 0.9 * block.length)
    found.push(`${heard} of ${block.length} hosts heard of the block`);
  for (const cost of start) {
    const at = `a container started, at h${cost.host}:`;
    most(`${at} bytes of gossip`, cost.messageBytes, MOST_MESSAGE_BYTES);
    most(`${at} messages beside its network`, cost.isOn ? 0 : cost.copies, 0);
    most(`${at} entries dumped`, cost.dumped, 0);
    most(`${at} differences of the kernel`, cost.drifts, 0);
  }
  const idleOfSmall = Math.max(...small.idle.map(({ bytes }) => bytes));
  for (const { host, bytes, signatures, written } of idle) {
    const at = `an idle minute of h${host} on ten networks:`;
    most(`${at} bytes`, bytes, Math.min(MOST_IDLE_BYTES, 1.5 * idleOfSmall));
    most(`${at} signatures`, signatures, 0);
    most(`${at} entries written`, written, 0);
  }
  return found;
}

function agentsOf({ hosts }: Simulation): SimAgent[] {
  return hosts.flatMap(({ agent }) => agent ?? []);
}

async function idleMinute(simulation: Simulation): Promise<IdleCost[]> {
  const { queue } = simulation;
  const agents = agentsOf(simulation).slice(0, BUSY_HOSTS);
  const before = agents.map(countsOf);
  await queue.runUntil(queue.nowMs + MINUTE_MS);
  return agents.map((agent, i) => {
    const more = differenceOf(before[i]!, countsOf(agent));
    const spoken = Object.entries(more).filter(([name]) => /(In|Out)(Bytes)?$/.test(name));
    const sum = (isBytes: boolean): number =>
      spoken.reduce((all, [name, n]) => (name.endsWith("Bytes") === isBytes ? all + n : all), 0);
    const { signatures = 0, passes = 0, entriesWritten: written = 0 } = more;
    return {
      host: agent.host.k,
      messages: sum(false),
      bytes: sum(true),
      signatures,
      passes,
      written,
    };
  });
}

/** The host that asks hears of it with the answer, and the one beside the controller by its watch: not the others' way. */
async function blockGiven(simulation: Simulation): Promise<BlockCost[]> {
  const { queue, controller, hosts } = simulation;
  const asking = hosts.find(({ agent, k }) => k > 1 && agent !== undefined)!;
  const [network] = asking.agent!.localNetworks.hosted();
  const agents = agentsOf(simulation).filter(
    ({ host }) => host !== asking && host !== controller.host,
  );
  const before = agents.map(countsOf);
  const { revision } = controller.record.state;
  const asked = asking.agent!.ask({ v: 1, kind: "allotBlock", network: network!, family: 4 });
  await queue.runUntil(queue.nowMs + HEARD_MS);
  await asked;
  const revisions = controller.record.state.revision - revision;
  return agents.map((agent, i) => {
    const more = differenceOf(before[i]!, countsOf(agent));
    const of = (name: string): number => more[name] ?? 0;
    return {
      host: agent.host.k,
      isOn: agent.localNetworks.has(network!),
      revisions,
      messages: of("clusterGossipIn"),
      messageBytes: of("clusterGossipInBytes"),
      copies: of("copies"),
      copiedBytes: of("copiedBytes"),
      asked: of("clusterSyncOut"),
      signatures: of("signatures"),
      states: of("states"),
      parsed: of("followed"),
    };
  });
}

function countsOf({ mesh, counted, replication, networks }: SimAgent): Record<string, number> {
  const { copies = 0, bytes: copiedBytes = 0 } = mesh.arrived.get(CLUSTER_TOPIC) ?? {};
  return {
    copies,
    copiedBytes,
    ...counted.counts(),
    ...replication.checked,
    ...replication.cluster.counters,
    ...networks.reconciler.totals(),
  };
}

function differenceOf(before: Record<string, number>, after: Record<string, number>) {
  return Object.fromEntries(
    Object.entries(after).map(([name, n]) => [name, n - (before[name] ?? 0)]),
  );
}
