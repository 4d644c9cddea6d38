import { topicOf } from "../../agent/replication/request-kinds.ts";
import type { NetworkId } from "../../shared/ids.ts";
import type { SimAgent } from "./sim-agent.ts";
import type { World } from "./world.ts";

/** As long as a message is on its way at most, once faults are over, some times. */
const HEARD_MS = 300;

/** What one container more cost a host, in counts. */
export interface StartCost {
  readonly host: number;
  /** Of the network that the container began on. */
  readonly isOn: boolean;
  /** Of the network's topic: each once, and their bytes. */
  readonly messages: number;
  readonly messageBytes: number;
  /** The same as often as they came: gossip hands on from several. */
  readonly copies: number;
  readonly copiedBytes: number;
  readonly signatures: number;
  readonly parsed: number;
  readonly passes: number;
  /** Forwarding entries; of those dumped none that the round of a minute compares. */
  readonly dumped: number;
  readonly written: number;
  readonly drifts: number;
}

/** A cluster at rest, in which a container starts on a host that is on its network already, and has a free address. */
export async function costOfOneStart(world: World): Promise<readonly StartCost[] | undefined> {
  const place = placeFor(world);
  if (place === undefined) return undefined;
  const { agent, network } = place;
  const agents = world.hosts.flatMap((host) => host.agent ?? []);
  const before = agents.map((each) => countsOf(each, network));
  const containers = agent.host.containers.size;
  agent.docker.run(network);
  await world.queue.runUntil(world.queue.nowMs + HEARD_MS);
  if (agent.host.containers.size !== containers + 1) return undefined;
  return agents.map((each, i) => {
    const was = before[i]!;
    const now = countsOf(each, network);
    const more = (name: keyof typeof now): number => now[name] - was[name];
    return {
      host: each.host.k,
      isOn: each.localNetworks.has(network),
      messages: more("messages"),
      messageBytes: more("messageBytes"),
      copies: more("copies"),
      copiedBytes: more("copiedBytes"),
      signatures: more("signatures"),
      parsed: more("parsed"),
      passes: more("passes"),
      dumped: more("dumped"),
      written: more("written"),
      drifts: more("drifts"),
    };
  });
}

/** The network that most hosts are on, and not all of them if there is one. */
function placeFor({ hosts }: World): { agent: SimAgent; network: NetworkId } | undefined {
  const agents = hosts.flatMap(({ agent, lies }) => (agent === undefined || lies ? [] : [agent]));
  const places = agents.flatMap((agent) =>
    [...new Set([...agent.host.containers.values()].map(({ network }) => network))].map(
      (network) => ({
        agent,
        network,
        on: agents.filter((each) => each.localNetworks.has(network)),
      }),
    ),
  );
  const some = places.filter(({ on }) => on.length > 1 && on.length < agents.length);
  return (some.length > 0 ? some : places).toSorted((a, b) => b.on.length - a.on.length)[0];
}

function countsOf({ mesh, counted, replication, networks }: SimAgent, network: NetworkId) {
  const arrived = mesh.arrived.get(topicOf(network));
  const { networkGossipIn = 0, networkGossipInBytes = 0 } = counted.counts();
  const { passes, entriesRead, entriesCompared, entriesWritten, drifts } =
    networks.reconciler.totals();
  return {
    copies: arrived?.copies ?? 0,
    copiedBytes: arrived?.bytes ?? 0,
    messages: networkGossipIn,
    messageBytes: networkGossipInBytes,
    signatures: replication.checked.signatures,
    parsed: replication.networks.counters.parsed + replication.cluster.counters.parsed,
    passes,
    dumped: entriesRead - entriesCompared,
    written: entriesWritten,
    drifts,
  };
}
