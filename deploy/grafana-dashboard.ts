import { writeFileSync } from "node:fs";
import { join } from "node:path";

/** Writes deploy/grafana/overlay-ts.json, for Grafana 10 and later. A test says that it is current, and shows every name. */

export const DASHBOARD = join(import.meta.dirname, "grafana/overlay-ts.json");

type Kind = "timeseries" | "stat" | "table" | "heatmap";

interface Panel {
  readonly title: string;
  readonly kind: Kind;
  readonly unit?: string;
  /** PromQL and what each line is called. */
  readonly shows: readonly (readonly [expr: string, legend: string])[];
}

/** Of the hosts that are chosen above. */
const OF = 'instance=~"$instance"';
const RATE = "[$__rate_interval]";

const chart = (title: string, unit: string, ...shows: Panel["shows"]): Panel => {
  return { title, kind: "timeseries", unit, shows };
};
const number = (title: string, unit: string, ...shows: Panel["shows"]): Panel => {
  return { title, kind: "stat", unit, shows };
};

const CLUSTER: readonly Panel[] = [
  number(
    "Agents",
    "none",
    [`sum(overlay_ts_up{${OF}})`, "answer"],
    [`sum(overlay_ts_member{${OF}})`, "members"],
    [`sum(overlay_ts_problems{${OF}})`, "problems"],
  ),
  number(
    "Controller",
    "none",
    ["max(overlay_ts_controller_decides)", "decides"],
    ["max(overlay_ts_nodes)", "hosts"],
    ["max(overlay_ts_networks)", "networks"],
    ["max(overlay_ts_blocks)", "blocks"],
    ["max(overlay_ts_tokens)", "tokens"],
  ),
  number("Since the last backup", "s", [
    "time() - max(overlay_ts_last_backup_time_seconds)",
    "backup",
  ]),
  {
    title: "Versions",
    kind: "table",
    shows: [["count by (version, wire, node_version) (overlay_ts_build_info)", "hosts"]],
  },
  chart("Other hosts, by how they answer", "none", [
    `sum by (state) (overlay_ts_peers{${OF}})`,
    "{{state}}",
  ]),
  chart("Not reached", "none", [`overlay_ts_peer_unreached{${OF}}`, "{{peer}} from {{instance}}"]),
  chart("Revision of the state", "none", [`overlay_ts_cluster_revision{${OF}}`, "{{instance}}"]),
  chart("The controller decides", "bool", [
    `overlay_ts_controller_reachable{${OF}}`,
    "{{instance}}",
  ]),
  chart("Hosts' requests a second", "reqps", [
    `sum by (kind, result) (rate(overlay_ts_requests_total${RATE}))`,
    "{{kind}} {{result}}",
  ]),
  chart("The state, and its bound", "bytes", [
    "max by (what) (overlay_ts_state_bytes)",
    "{{what}}",
  ]),
  chart("Networks with the fewest addresses in no block", "none", [
    "min by (network) (overlay_ts_blocks_free_addresses)",
    "{{network}}",
  ]),
  chart("Mesh connections", "none", [`overlay_ts_mesh_connections{${OF}}`, "{{instance}}"]),
  chart(
    "Mesh: not taken, not answered",
    "ops",
    [`sum by (reason) (rate(overlay_ts_mesh_dropped_total{${OF}}${RATE}))`, "{{reason}}"],
    [`sum(rate(overlay_ts_mesh_requests_failed_total{${OF}}${RATE}))`, "no answer"],
  ),
];

const DATA_PATH: readonly Panel[] = [
  {
    title: "Round trips between hosts",
    kind: "heatmap",
    unit: "s",
    shows: [
      [`sum by (le) (increase(overlay_ts_probe_rtt_seconds_bucket{${OF}}${RATE}))`, "{{le}}"],
    ],
  },
  chart("Probes that were lost", "percentunit", [
    `sum by (instance) (rate(overlay_ts_probes_total{result="lost",${OF}}${RATE})) / sum by (instance) (rate(overlay_ts_probes_total{${OF}}${RATE}))`,
    "{{instance}}",
  ]),
  chart("Tunnels, by whether there is a path", "none", [
    `sum by (kind, path) (overlay_ts_tunnel_peers{${OF}})`,
    "{{kind}} {{path}}",
  ]),
  chart("WireGuard's oldest handshake", "s", [
    `overlay_ts_tunnel_oldest_handshake_seconds{${OF}}`,
    "{{instance}}",
  ]),
  chart(
    "Packets dropped by the guards",
    "pps",
    [`sum by (reason) (rate(overlay_ts_guard_dropped_packets_total{${OF}}${RATE}))`, "{{reason}}"],
    [
      `sum by (reason) (rate(overlay_ts_egress_dropped_packets_total{${OF}}${RATE}))`,
      "way out: {{reason}}",
    ],
  ),
  chart("Guards changed by somebody else", "none", [
    `increase(overlay_ts_guard_tampered_total{${OF}}[$__range])`,
    "{{instance}}",
  ]),
  chart(
    "Ways out",
    "none",
    [`overlay_ts_egress_containers{${OF}}`, "containers, {{instance}}"],
    [`overlay_ts_egress_blocked{${OF}}`, "blocked {{family}}, {{instance}}"],
  ),
  chart(
    "Kernel: comparisons, changes, failures",
    "ops",
    [`sum(rate(overlay_ts_kernel_passes_total{${OF}}${RATE}))`, "comparisons"],
    [`sum(rate(overlay_ts_kernel_steps_total{${OF}}${RATE}))`, "changes"],
    [`sum(rate(overlay_ts_kernel_pass_failures_total{${OF}}${RATE}))`, "failures"],
    [`sum(rate(overlay_ts_kernel_drifts_total{${OF}}${RATE}))`, "drifts"],
  ),
  chart("Kernel: how long 99 % took at most", "s", [
    `histogram_quantile(0.99, sum by (instance, le) (rate(overlay_ts_kernel_pass_seconds_bucket{${OF}}${RATE})))`,
    "{{instance}}",
  ]),
  chart(
    "Endpoints of networks",
    "none",
    [
      `max by (network) (overlay_ts_network_endpoints{where="here",${OF}})`,
      "{{network}}, most on a host",
    ],
    [`sum(overlay_ts_networks_here{${OF}})`, "networks, over all hosts"],
  ),
  chart(
    "Networks: not in sync, endpoints ignored",
    "none",
    [`count by (network) (overlay_ts_network_in_sync{${OF}} == 0)`, "{{network}} not in sync"],
    [`sum by (network, reason) (overlay_ts_endpoints_ignored{${OF}})`, "{{network}} {{reason}}"],
  ),
  chart("Addresses left in own blocks", "percentunit", [
    `min by (network) (overlay_ts_network_addresses_free{${OF}} / overlay_ts_network_addresses{${OF}})`,
    "{{network}}",
  ]),
];

const NAMES: readonly Panel[] = [
  chart("Answers, by what became of the question", "reqps", [
    `sum by (result) (rate(overlay_ts_dns_answers_total{${OF}}${RATE}))`,
    "{{result}}",
  ]),
  chart("Questions that waited", "reqps", [
    `sum by (instance) (rate(overlay_ts_dns_held_total{${OF}}${RATE}))`,
    "{{instance}}",
  ]),
  chart("Questions that were dropped", "reqps", [
    `sum by (reason) (rate(overlay_ts_dns_dropped_total{${OF}}${RATE}))`,
    "{{reason}}",
  ]),
  chart("Containers, by how they are served", "none", [
    `sum by (state) (overlay_ts_dns_sandboxes{${OF}})`,
    "{{state}}",
  ]),
  chart("Containers, by how virtual addresses are served", "none", [
    `sum by (state) (overlay_ts_vip_containers{${OF}})`,
    "{{state}}",
  ]),
];

const HOST: readonly Panel[] = [
  chart("Processor, of one core", "percentunit", [
    `rate(overlay_ts_cpu_seconds_total{${OF}}${RATE})`,
    "{{instance}}",
  ]),
  chart("Event loop, not idle", "percentunit", [
    `rate(overlay_ts_event_loop_active_seconds_total{${OF}}${RATE})`,
    "{{instance}}",
  ]),
  chart(
    "Memory",
    "bytes",
    [`overlay_ts_resident_memory_bytes{${OF}}`, "{{instance}}"],
    [`overlay_ts_controller_resident_memory_bytes{${OF}}`, "controller, {{instance}}"],
  ),
  chart("Since the agent's start", "s", [
    `time() - overlay_ts_start_time_seconds{${OF}}`,
    "{{instance}}",
  ]),
  chart("Docker's calls", "reqps", [
    `sum by (call, result) (rate(overlay_ts_docker_calls_total{${OF}}${RATE}))`,
    "{{call}} {{result}}",
  ]),
  chart("Docker's calls: how long 99 % took at most", "s", [
    `histogram_quantile(0.99, sum by (instance, le) (rate(overlay_ts_docker_call_seconds_bucket{${OF}}${RATE})))`,
    "{{instance}}",
  ]),
  chart("The engine answers", "bool", [`overlay_ts_docker_reachable{${OF}}`, "{{instance}}"]),
  chart(
    "Disk",
    "none",
    [`overlay_ts_disk_writable{${OF}}`, "takes writes, {{instance}}"],
    [`overlay_ts_disk_entries_waiting{${OF}}`, "entries waiting, {{instance}}"],
    [`overlay_ts_disk_lost_total{${OF}}`, "lost, {{instance}}"],
  ),
];

const ROWS: readonly (readonly [title: string, panels: readonly Panel[]])[] = [
  ["Cluster", CLUSTER],
  ["Data path", DATA_PATH],
  ["Names", NAMES],
  ["Host", HOST],
];

/** Of Grafana's grid, which is 24 wide. */
const WIDTH = 8;
const HEIGHT = 8;
const SOURCE = { type: "prometheus", uid: "${datasource}" };

function panelJson({ title, kind, unit = "none", shows }: Panel, id: number, at: object): object {
  const isNow = kind === "stat" || kind === "table";
  return {
    id,
    title,
    type: kind,
    datasource: SOURCE,
    gridPos: { w: WIDTH, h: HEIGHT, ...at },
    fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
    options: kind === "heatmap" ? { calculate: false, yAxis: { unit }, cellGap: 1 } : {},
    targets: shows.map(([expr, legendFormat], i) => ({
      refId: String.fromCharCode(65 + i),
      datasource: SOURCE,
      expr,
      legendFormat,
      instant: isNow,
      range: !isNow,
      format: {
        table: "table",
        heatmap: "heatmap",
        stat: "time_series",
        timeseries: "time_series",
      }[kind],
    })),
  };
}

export function dashboard(): string {
  let id = 0;
  let y = 0;
  const panels = ROWS.flatMap(([title, all]) => {
    const row = { id: ++id, title, type: "row", collapsed: false, panels: [] };
    const top = y;
    const inRow = all.map((panel, i) => {
      const at = { x: (i % 3) * WIDTH, y: top + 1 + Math.floor(i / 3) * HEIGHT };
      return panelJson(panel, ++id, at);
    });
    y = top + 1 + Math.ceil(all.length / 3) * HEIGHT;
    return [{ ...row, gridPos: { x: 0, y: top, w: 24, h: 1 } }, ...inRow];
  });
  const board = {
    uid: "overlay-ts",
    title: "overlay-ts",
    tags: ["overlay-ts"],
    editable: true,
    schemaVersion: 38,
    version: 1,
    refresh: "30s",
    time: { from: "now-3h", to: "now" },
    templating: {
      list: [
        { name: "datasource", type: "datasource", query: "prometheus", label: "Prometheus" },
        {
          name: "instance",
          type: "query",
          label: "Host",
          datasource: SOURCE,
          query: { query: "label_values(overlay_ts_build_info, instance)", refId: "instance" },
          definition: "label_values(overlay_ts_build_info, instance)",
          includeAll: true,
          multi: true,
          refresh: 2,
          sort: 1,
          current: { selected: true, text: ["All"], value: ["$__all"] },
        },
      ],
    },
    annotations: { list: [] },
    panels,
  };
  return `${JSON.stringify(board, undefined, 2)}\n`;
}

if (import.meta.main) writeFileSync(DASHBOARD, dashboard());
