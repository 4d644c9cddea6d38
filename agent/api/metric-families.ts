import { countOf, summed } from "../../shared/histogram.ts";
import {
  by,
  counter,
  gauge,
  histogram,
  type MetricFamily,
  only,
  type Sample,
} from "../../shared/metric-family.ts";
import type { PluginCounts } from "../docker/plugin/counters.ts";
import type { AgentStatus } from "./status.ts";
import type { AgentFacts, MemberFacts, ProcessFacts } from "./metric-facts.ts";
import { networkFamilies } from "./network-families.ts";
import { PEER_STATES } from "./peer-state.ts";

/** Each name with its meaning: deploy/prometheus/README.md, by a test. What is not known has no sample. */

/** The only label that names hosts, so it has a bound: a cluster has a thousand, and each of them a thousand others. */
const MOST_NAMED = 20;
const OTHERS = "others";

/** All names, in an order that stays. */
export function familiesOf({ process, member, plugin }: AgentFacts): MetricFamily[] {
  return [
    ...processFamilies(process),
    ...clusterFamilies(member?.status),
    ...peerFamilies(member),
    ...networkFamilies(member),
    ...kernelFamilies(member),
    ...dockerFamilies(member?.status, plugin),
    ...namesFamilies(member?.status),
    ...guardFamilies(member?.status),
    ...tunnelFamilies(member?.status),
    ...diskFamilies(member?.status),
  ];
}

function processFamilies(facts: ProcessFacts): MetricFamily[] {
  const { version, wire, nodeVersion } = facts;
  const build = { version, wire, node_version: nodeVersion };
  return [
    gauge("overlay_ts_build_info", "What runs: always 1.", [{ labels: build, value: 1 }]),
    gauge("overlay_ts_up", "The agent answers: 0 in a textfile that was written without it.", [
      ...only(1),
    ]),
    gauge(
      "overlay_ts_start_time_seconds",
      "When the agent's process began, since 1970.",
      only(facts.startedAtMs / 1000),
    ),
    gauge(
      "overlay_ts_resident_memory_bytes",
      "Of the agent's process, with pages of files that others share (RSS).",
      only(facts.residentBytes),
    ),
    counter(
      "overlay_ts_cpu_seconds_total",
      "Processor time of the agent's process, all threads.",
      only(facts.cpuSeconds),
    ),
    counter(
      "overlay_ts_event_loop_active_seconds_total",
      "How long the agent's main thread was not idle: a rate of 1 is one that answers late.",
      only(facts.loopActiveMs / 1000),
    ),
  ];
}

function clusterFamilies(status: AgentStatus | undefined): MetricFamily[] {
  const mesh = status?.counters.mesh;
  return [
    gauge(
      "overlay_ts_member",
      "1: the host takes part in its cluster; 0: not joined, removed, or it cannot (`overlay-ts status` says).",
      only(status !== undefined && status.removed === undefined),
    ),
    gauge(
      "overlay_ts_cluster_revision",
      "Of the cluster's state, as this host has it; the generation of its controller is in the upper digits.",
      only(status?.revision),
    ),
    gauge(
      "overlay_ts_controller_reachable",
      "0: the controller decided nothing when this host asked it last.",
      only(status && status.controller.failure === undefined),
    ),
    gauge(
      "overlay_ts_problems",
      "What does not work here and is tried again: `overlay-ts status` names each.",
      only(status?.problems?.length),
    ),
    gauge(
      "overlay_ts_mesh_connections",
      "Other hosts' agents with a connection; each keeps a few dozen of a large cluster.",
      only(status?.peers.filter(({ connected }) => connected).length),
    ),
    counter(
      "overlay_ts_mesh_dropped_total",
      "Messages of other agents that were not taken: sealed with another key, too large, more than agreed; `floodCut`: connections that were ended for it.",
      by("reason", picked(mesh, ["unsealed", "tooLarge", "floodDropped", "floodCut"])),
    ),
    counter(
      "overlay_ts_mesh_requests_failed_total",
      "Questions to other agents that had no answer.",
      only(mesh?.["requestsFailed"]),
    ),
  ];
}

function peerFamilies(member: MemberFacts | undefined): MetricFamily[] {
  const counts = Object.fromEntries(PEER_STATES.map((state) => [state, 0]));
  for (const { state } of member?.peers ?? []) counts[state]!++;
  const unreached = (member?.peers ?? []).filter(({ state }) => state === "unreached");
  const names = unreached.map(({ name }) => name).toSorted();
  const more = names.length - MOST_NAMED;
  const named = names.slice(0, MOST_NAMED).map((name) => [name, 1] as const);
  const took = summed((member?.probes ?? []).map((one) => one.took));
  const lost = (member?.probes ?? []).reduce((sum, one) => sum + one.lost, 0);
  return [
    gauge(
      "overlay_ts_peers",
      "Other hosts by how they answer through the data path; `silent`: not to the last question.",
      member === undefined ? [] : by("state", counts),
    ),
    gauge(
      "overlay_ts_peer_unreached",
      `1 for each host that is not reached, at most ${MOST_NAMED} by name; as \`${OTHERS}\`: how many more.`,
      by("peer", Object.fromEntries([...named, ...(more > 0 ? [[OTHERS, more] as const] : [])])),
    ),
    counter(
      "overlay_ts_probes_total",
      "Packets that asked other hosts' kernels through the data path.",
      by("result", took && { ok: countOf(took), lost }),
    ),
    histogram(
      "overlay_ts_probe_rtt_seconds",
      "Round trips of those that were answered, through all classes of encryption, all hosts together.",
      took === undefined ? [] : [{ labels: {}, took }],
    ),
  ];
}

function kernelFamilies(member: MemberFacts | undefined): MetricFamily[] {
  const kernel = member?.status.counters.kernel;
  return [
    counter(
      "overlay_ts_kernel_passes_total",
      "Times that a network in the kernel was compared with what it should be.",
      only(kernel?.["passes"]),
    ),
    counter(
      "overlay_ts_kernel_pass_failures_total",
      "Of these, those that failed; they are tried again.",
      only(kernel?.["failures"]),
    ),
    histogram(
      "overlay_ts_kernel_pass_seconds",
      "How long they took.",
      member === undefined ? [] : [{ labels: {}, took: member.passes }],
    ),
    counter(
      "overlay_ts_kernel_steps_total",
      "Changes that they made.",
      only(kernel?.["stepsApplied"]),
    ),
    counter(
      "overlay_ts_kernel_drifts_total",
      "Differences that no event had told of: faults of ours, or writes of others.",
      only(kernel?.["drifts"]),
    ),
  ];
}

function dockerFamilies(
  status: AgentStatus | undefined,
  plugin: PluginCounts | undefined,
): MetricFamily[] {
  const calls = Object.entries(plugin?.calls ?? {});
  const results = calls.flatMap(([call, { refused, late, took }]): Sample[] => [
    { labels: { call, result: "ok" }, value: took === undefined ? 0 : countOf(took) },
    { labels: { call, result: "refused" }, value: refused },
    { labels: { call, result: "late" }, value: late },
  ]);
  const took = summed(calls.flatMap(([, call]) => call.took ?? []));
  return [
    gauge(
      "overlay_ts_docker_reachable",
      "1: the engine answered when its networks were compared last.",
      only(status?.docker?.reachable),
    ),
    counter(
      "overlay_ts_docker_calls_total",
      "Docker's calls. `refused`: answered with an error; `late`: of these, what ended after its deadline, and was taken back.",
      results,
    ),
    histogram(
      "overlay_ts_docker_call_seconds",
      "How long those took that were answered, all together; by call they are in `overlay-ts status --json`.",
      took === undefined ? [] : [{ labels: {}, took }],
    ),
  ];
}

const ANSWERS = ["answered", "nodata", "forwarded", "forwardedTcp", "relayed", "notThere"];
const NAMES_DROPPED =
  "droppedFlood droppedHeld droppedRelay droppedSend droppedTcpConnections droppedTcpQuestions kernelDrops".split(
    " ",
  );

function namesFamilies(status: AgentStatus | undefined): MetricFamily[] {
  const counters = status?.names.counters;
  return [
    counter(
      "overlay_ts_dns_answers_total",
      "Containers' questions by what became of them.",
      by("result", picked(counters, ANSWERS)),
    ),
    counter(
      "overlay_ts_dns_held_total",
      "Questions that waited until a network was known in full.",
      only(counters?.["held"]),
    ),
    counter(
      "overlay_ts_dns_dropped_total",
      "Questions that were not answered: too many, or no room for more.",
      by("reason", picked(counters, NAMES_DROPPED)),
    ),
    gauge(
      "overlay_ts_dns_sandboxes",
      "Containers by how their questions are answered; `failed`: by Docker's resolver alone.",
      by("state", status?.names.sandboxes),
    ),
    gauge(
      "overlay_ts_vip_containers",
      "Containers by how virtual addresses are served in them; `failed`: `overlay-ts status` says why.",
      by("state", status?.virtualAddresses?.clients),
    ),
  ];
}

function guardFamilies(status: AgentStatus | undefined): MetricFamily[] {
  const { dropped, tampered } = status?.guards ?? {};
  const { containers, blocked, dropped: outside } = status?.egress ?? {};
  return [
    counter(
      "overlay_ts_guard_dropped_packets_total",
      "Packets that were let neither in nor out, by why (agent/kernel/nft/README.md).",
      by("reason", dropped),
    ),
    counter(
      "overlay_ts_guard_tampered_total",
      "Times that somebody else changed the guards; they are put back.",
      only(tampered),
    ),
    gauge(
      "overlay_ts_egress_containers",
      "Containers that leave by their network, not by docker_gwbridge.",
      only(containers),
    ),
    gauge(
      "overlay_ts_egress_blocked",
      "1: further ones would not leave by their network; `overlay-ts status` says why.",
      by(
        "family",
        blocked && { ipv4: blocked.ipv4 !== undefined, ipv6: blocked.ipv6 !== undefined },
      ),
    ),
    counter(
      "overlay_ts_egress_dropped_packets_total",
      "Packets on networks' ways out that were not let through.",
      by("reason", outside),
    ),
  ];
}

function tunnelFamilies(status: AgentStatus | undefined): MetricFamily[] {
  const { wireguard, ipsec } = status?.encryption ?? {};
  const peers = Object.entries({ wireguard: wireguard?.peers, ipsec: ipsec?.peers }).flatMap(
    ([kind, all]) =>
      all === undefined
        ? []
        : [true, false].map((path) => ({
            labels: { kind, path: path ? "yes" : "no" },
            value: all.filter((peer) => peer.path === path).length,
          })),
  );
  const ages = (wireguard?.peers ?? []).flatMap(({ path, handshakeSecondsAgo }) =>
    path && handshakeSecondsAgo !== undefined ? [handshakeSecondsAgo] : [],
  );
  return [
    gauge("overlay_ts_tunnel_peers", "Hosts with which traffic is encrypted.", peers),
    gauge(
      "overlay_ts_tunnel_oldest_handshake_seconds",
      "Age of WireGuard's oldest, of hosts with a path; without traffic it may grow.",
      only(ages.length === 0 ? undefined : Math.max(...ages)),
    ),
  ];
}

function diskFamilies(status: AgentStatus | undefined): MetricFamily[] {
  const disk = status?.disk;
  return [
    gauge(
      "overlay_ts_disk_writable",
      "0: the last write was not taken; new containers are refused.",
      only(disk && disk.failure === undefined),
    ),
    gauge("overlay_ts_disk_entries_waiting", "What waits to be written.", only(disk?.owed)),
    counter(
      "overlay_ts_disk_lost_total",
      "Data that could not be read any more: they come again from peers and kernel.",
      only(disk?.losses.length),
    ),
  ];
}

/** Of these names only, those that there are. */
function picked(
  counts: Readonly<Record<string, number>> | undefined,
  names: readonly string[],
): Record<string, number> {
  return Object.fromEntries(
    names.flatMap((name) => {
      const count = counts?.[name];
      return count === undefined ? [] : [[name, count] as const];
    }),
  );
}
