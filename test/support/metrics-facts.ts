import type { AgentFacts } from "../../agent/api/metric-facts.ts";
import type { PeerState } from "../../agent/api/peer-state.ts";
import type { AgentStatus, NetworkStatus } from "../../agent/api/status.ts";
import type { ControllerFacts } from "../../controller/metrics.ts";
import type { NetworkRecord } from "../../shared/cluster-state.ts";
import { Histogram } from "../../shared/histogram.ts";
import { NetworkId } from "../../shared/ids.ts";
import { Cidr, Ip } from "../../shared/ip.ts";
import { app, nodeId } from "./cluster.ts";

/** Facts of a host on which everything there is to count has happened, for who counts what is shown of it. */

const took = (...ms: readonly number[]) => {
  const histogram = new Histogram();
  for (const each of ms) histogram.add(each);
  return histogram.counts();
};

const FAILURE = { code: "TIMEOUT", message: "no answer", next: "wait" } as const;

/** As Docker names them. */
const CALLS =
  "Plugin.Activate NetworkDriver.GetCapabilities NetworkDriver.CreateNetwork NetworkDriver.DeleteNetwork NetworkDriver.CreateEndpoint NetworkDriver.EndpointOperInfo NetworkDriver.DeleteEndpoint NetworkDriver.Join NetworkDriver.Leave IpamDriver.GetCapabilities IpamDriver.GetDefaultAddressSpaces IpamDriver.RequestPool IpamDriver.ReleasePool IpamDriver.RequestAddress IpamDriver.ReleaseAddress".split(
    " ",
  );

const GUARDS =
  "ownProcess forwarded stranger notHosting notSpeaker unusedClass unencrypted throughHost aroundNetwork unpublished toMesh".split(
    " ",
  );

const ones = (names: readonly string[]): Record<string, number> =>
  Object.fromEntries(names.map((name) => [name, 1]));

const networkId = (k: number): NetworkId => NetworkId.parse((k + 1).toString(16).padStart(32, "0"));

function networkOf(k: number): NetworkStatus {
  return {
    id: networkId(k),
    name: `network-${k}`,
    endpoints: 3,
    remotes: 1000,
    addresses: 3,
    inSync: true,
    alone: false,
    pass: undefined,
    ignored: [],
  };
}

function statusOf(hosts: number, networks: number): AgentStatus {
  const other = Array.from({ length: hosts - 1 }, (_, k) => k);
  const here = Array.from({ length: networks }, (_, k) => networkOf(k));
  const ignoredHere = { node: nodeId(2), reason: "mac-taken", host: "h2", container: undefined };
  return {
    joined: true,
    node: nodeId(1),
    name: "h1",
    cluster: "c".repeat(32),
    revision: 7,
    removed: undefined,
    controller: { address: "198.51.100.1", port: 7952, failure: undefined },
    peers: other.map((k) => ({ node: nodeId(2), name: `h${k + 2}`, connected: k < 12 })),
    dataPath: [],
    needStateWhole: [],
    otherVersions: [],
    networks: [
      ...here.slice(1),
      { ...here[0]!, ignored: [ignoredHere] as unknown as NetworkStatus["ignored"] },
    ],
    tooLarge: [],
    docker: { reachable: true, problem: undefined, conflicts: [] },
    names: {
      counters: ones(
        "answered nodata forwarded forwardedTcp relayed notThere held tcpConnections droppedFlood droppedHeld droppedRelay droppedSend droppedTcpConnections droppedTcpQuestions gatesMade kernelDrops".split(
          " ",
        ),
      ),
      sandboxes: { waiting: 0, serving: 9, failed: 1 },
      lastProblem: undefined,
    },
    virtualAddresses: {
      vips: 1,
      clients: { idle: 3, waiting: 0, served: 6, failed: 1 },
      lastProblem: undefined,
      without: [],
      counters: {},
    },
    naming: undefined,
    encryption: {
      wireguard: {
        failure: undefined,
        by: "kernel",
        inside: undefined,
        publicKey: undefined,
        peers: other.map((k) => ({
          node: nodeId(2),
          name: `h${k + 2}`,
          path: k > 0,
          why: undefined,
          endpoint: undefined,
          handshakeSecondsAgo: k,
          rxBytes: 0,
          txBytes: 0,
        })),
        dropped: {},
      },
      ipsec: { failure: undefined, peers: [], counters: {} },
    },
    guards: { failure: undefined, dropped: ones(GUARDS), tampered: 1 },
    egress: {
      containers: 4,
      blocked: { ipv4: undefined, ipv6: FAILURE },
      dropped: ones(["unpublished", "invalid"]),
    },
    disk: { owed: 2, failure: undefined, losses: [{ what: "a table", why: "torn" }] },
    problems: [],
    counters: {
      networks: {},
      cluster: {},
      checked: {},
      mesh: ones(["unsealed", "tooLarge", "requestsFailed", "floodDropped", "floodCut"]),
      kernel: ones(["passes", "stepsApplied", "failures", "drifts"]),
      events: {},
      names: {},
    },
    memoryBytes: 1,
  };
}

/** This host is on `networks`; of the other hosts every tenth is not reached. */
export function fullFacts(hosts: number, networks: number): AgentFacts {
  const status = statusOf(hosts, networks);
  const states: readonly PeerState[] = ["unreached", ...Array<PeerState>(9).fill("reached")];
  return {
    process: {
      version: "0.1.0",
      wire: "1",
      nodeVersion: "24.0.0",
      startedAtMs: 1000,
      residentBytes: 1,
      cpuSeconds: 1,
      loopActiveMs: 1,
    },
    member: {
      status,
      peers: status.peers.map(({ name }, k) => ({ name, state: states[k % 10]! })),
      probes: [
        { took: took(0.2, 3), lost: 1 },
        { took: took(1), lost: 0 },
      ],
      passes: took(1, 20),
      addresses: new Map(status.networks.map(({ id }) => [id, { free: 50, total: 62 }])),
    },
    plugin: {
      calls: Object.fromEntries(
        CALLS.map((call) => [
          call,
          { asked: 5, decoded: 5, refused: 2, late: 1, took: took(3, 4, 700) },
        ]),
      ),
      unknown: { names: 0, methods: 0, garbage: 0 },
      lastRefused: {},
    },
  };
}

/** Of a controller with so many networks. */
export function controllerFacts(networks: number): ControllerFacts {
  const { record } = controllerRecord(networks);
  return {
    record,
    bytes: 1000,
    requests: [
      { kind: "join", result: "ok", count: 2 },
      { kind: "join", result: "refused", count: 1 },
    ],
    hasProblem: false,
    backedUpAtMs: 5000,
    nowMs: 10_000,
    residentBytes: 1,
  };
}

function controllerRecord(networks: number): Pick<ControllerFacts, "record"> {
  const all = Array.from({ length: networks }, (_, k): NetworkRecord => {
    const subnet = Cidr.parse(`10.${Math.floor(k / 256)}.${k % 256}.0/24`);
    return {
      ...app,
      id: networkId(k),
      name: `network-${k}`,
      subnets: [
        { subnet, gateway: Ip.parse(subnet.replace("0/24", "1")), dynamicRanges: [subnet] },
      ],
    };
  });
  const token = { id: "0".repeat(12), secretHash: "0".repeat(64), createdAtMs: 0 };
  return {
    record: {
      format: 1,
      state: {
        nodes: [],
        networks: all,
        blocks: [
          { network: networkId(7), block: Cidr.parse("10.0.7.0/25"), node: nodeId(1) },
          { network: networkId(7), block: Cidr.parse("10.0.7.128/26"), node: nodeId(2) },
        ],
      },
      tokens: [
        { ...token, expiresAtMs: 20_000, usesLeft: 1 },
        { ...token, expiresAtMs: 20_000, usesLeft: 0 },
        { ...token, expiresAtMs: 9000, usesLeft: 1 },
      ],
    } as unknown as ControllerFacts["record"],
  };
}
