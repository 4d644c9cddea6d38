import { existsSync } from "node:fs";
import { join } from "node:path";
import { OverlayError } from "../shared/errors.ts";
import type { Cidr } from "../shared/ip.ts";
import { hasAddress } from "../shared/node/own-address.ts";
import { ProcessLock } from "../shared/node/process-lock.ts";
import type { Supervisor } from "../shared/node/supervisor.ts";
import { systemClock } from "../shared/node/system.ts";
import { textUnix, type UnixAddress, UnixHttpServer } from "../shared/node/unix-http.ts";
import { bare, byQuery } from "../shared/node/routes.ts";
import { startWatchdog } from "../shared/node/watchdog.ts";
import type { Log } from "../shared/ports.ts";
import { Agent } from "./agent.ts";
import { isWorthWaiting, type Life, type MembershipAfter, whyNoMember } from "./core/life.ts";
import { CutOffFile, rememberCutOff } from "./docker/cut-off.ts";
import { delegateIpam, delegateNetwork } from "./docker/plugin/delegate.ts";
import { GONE } from "./docker/plugin/gone.ts";
import { PluginSocket } from "./docker/plugin/plugin-socket.ts";
import { CALL_TIMEOUT_MS, PluginServer } from "./docker/plugin/server.ts";
import { EngineClient } from "./docker/engine/client.ts";
import { withdrawViews } from "./docker/withdraw-views.ts";
import { LinuxNameServer } from "./names/server/linux-name-server.ts";
import type { WaitingQuestions } from "./names/server/waiting-questions.ts";
import { LeftTable } from "./kernel/nft/left-table.ts";
import { Nft } from "./kernel/nft/nft.ts";
import { LeftSockets } from "./names/left-sockets.ts";
import { Lifecycle, type Remains } from "./lifecycle.ts";
import { linuxAdapters } from "./linux-adapters.ts";
import { HostMetrics, type MetricsServed } from "./api/metrics.ts";
import { type MetricsAddress, MetricsListener } from "./api/metrics-listener.ts";
import { localRoutes } from "./api/routes.ts";
import { listenAddress, type Member, readMember } from "./membership/member.ts";
import { type AgentFiles, agentFiles, forgetMembership } from "./membership/membership-files.ts";
import { whyNotHere } from "./membership/readdress-waiting.ts";
import { remainsOf } from "./leftovers.ts";
import type { Loss } from "./store/loss.ts";

export interface AgentConfig {
  readonly dataDirectory: string;
  readonly runDirectory: string;
  /** Docker's calls and the controller's answers may take so long, when that is longer than they may anyway. */
  readonly patienceMs?: number | undefined;
  /** Of networks' ways out; undefined: they have none. */
  readonly transitPool: Cidr | undefined;
  /** Where metrics can be asked for beside the local socket; undefined: nowhere. */
  readonly metrics?: MetricsAddress | undefined;
  /** Undefined: a host without an engine. */
  readonly docker:
    | {
        readonly engineSocket: string;
        readonly pluginSocket: UnixAddress;
        /** Of the socket, whoever made it. */
        readonly pluginPath: string;
      }
    | undefined;
}

/** For Docker's call that meets an agent at its start, which is bounded itself. */
const STARTING_TIMEOUT_MS = 150_000;

/** What a service gets from who started it. */
export interface AgentService {
  readonly log: Log;
  readonly supervisor: Supervisor;
  /** In containers' sockets that came back from the agent before; undefined: none did. */
  readonly waiting: WaitingQuestions | undefined;
}

/** This host's agent until `signal` aborts: what it does is its life's (lifecycle.ts). */
export async function runAgent(
  config: AgentConfig,
  service: AgentService,
  signal: AbortSignal,
): Promise<void> {
  const { log, supervisor } = service;
  const files = agentFiles(config.dataDirectory);
  const lock = await ProcessLock.ofService(files.lock, "the agent", "overlay-ts-agent");
  const leftTable = new LeftTable(new Nft(undefined));
  // A host that never left needs no nft here.
  await leftTable.look().catch(() => {});
  const life = makeLife(config, files, leftTable, service);
  const plugin = pluginServer(config, life, log);
  const metrics = hostMetrics(config, life, plugin);
  const listener = config.metrics && new MetricsListener(config.metrics, () => metrics.text(), log);
  const local = localServer(config, life, plugin, {
    metrics,
    listening: () => listener?.status(),
  });
  await local.start();
  listener?.start();
  // From the start: Docker keeps a plugin it found, and is told why while there is no cluster.
  await plugin?.start();
  const endWatch = startWatchdog({
    supervisor,
    log,
    clock: systemClock,
    owed: () => life.made()?.owed() ?? {},
  });
  try {
    await life.run(signal, async () => plugin?.stop());
  } finally {
    endWatch();
    await plugin?.stop();
    await listener?.stop();
    await local.stop();
    leftTable.letGo();
    lock.release();
  }
}

type AgentLife = Lifecycle<Member, Agent>;

/** Docker's calls. Undefined: a host without an engine. */
function pluginServer(
  { docker, patienceMs = 0 }: AgentConfig,
  life: AgentLife,
  log: Log,
): PluginServer | undefined {
  if (docker === undefined) return undefined;
  return new PluginServer(docker.pluginSocket, {
    network: delegateNetwork({
      giving: async () => (await life.member()).parts.driver,
      takingBack: async () => (await life.working())?.parts.driver ?? GONE.network,
    }),
    ipam: delegateIpam({
      giving: async () => (await life.member()).parts.ipam,
      takingBack: async () => (await life.working())?.parts.ipam ?? GONE.ipam,
    }),
    log,
    timeoutMs: () =>
      Math.max(patienceMs, isWorthWaiting(life.life()) ? STARTING_TIMEOUT_MS : CALL_TIMEOUT_MS),
  });
}

/** For its own word of itself: who scrapes this host waits no longer. */
const CONTROLLER_MS = 2000;

function hostMetrics(
  { runDirectory }: AgentConfig,
  life: AgentLife,
  plugin: PluginServer | undefined,
): HostMetrics {
  const controller = join(runDirectory, "controller.sock");
  return new HostMetrics(
    () => life.agent()?.parts,
    () => plugin?.counts(),
    // That it does not answer is seen by what is not there, and by `overlay_ts_controller_reachable` everywhere.
    () => textUnix(controller, "/v1/metrics", CONTROLLER_MS).catch(() => ""),
  );
}

/** What commands ask. */
function localServer(
  { runDirectory }: AgentConfig,
  life: AgentLife,
  plugin: PluginServer | undefined,
  metrics: MetricsServed,
): UnixHttpServer {
  const end = (membershipIs: MembershipAfter) =>
    byQuery(["force"], ({ force }) => life.end(membershipIs, { force: force === "true" }));
  return new UnixHttpServer(join(runDirectory, "agent.sock"), {
    ...localRoutes(
      () => life.agent()?.parts,
      () => life.life(),
      () => plugin?.counts(),
      metrics,
    ),
    "GET /v1/life": bare(() => Promise.resolve({ state: life.life().state })),
    "POST /v1/leave": end("forgotten"),
    "POST /v1/withdraw": end("kept"),
  });
}

function makeLife(
  { dataDirectory, runDirectory, docker, patienceMs, transitPool }: AgentConfig,
  files: AgentFiles,
  leftTable: LeftTable,
  { log, supervisor, waiting }: AgentService,
): AgentLife {
  const left = new LeftSockets(supervisor.descriptors, waiting);
  const lost: Loss[] = [];
  const pluginSocket =
    docker && new PluginSocket(docker.pluginPath, typeof docker.pluginSocket !== "string");
  const places = {
    dataDirectory,
    runDirectory,
    engineSocket: docker?.engineSocket,
    pluginSocket,
    patienceMs,
    transitPool,
  };
  const report = new LifeReport(log, supervisor);
  return new Lifecycle<Member, Agent>({
    membership: {
      read: () => readMember(files),
      isThere: () => existsSync(files.membership),
      forget: () => forgetMembership(files),
    },
    make: (member, cannotRun) => {
      // Before anything is made that would say so less clearly.
      const why = whyNotHere(files, listenAddress(member.node), hasAddress);
      if (why !== undefined) throw new OverlayError(why);
      const names = new LinuxNameServer({ ...left.take(), keeper: supervisor.descriptors }, log);
      try {
        const adapters = linuxAdapters(places, member, names, lost, log);
        return new Agent(member.identity, member.membership, adapters, log, cannotRun);
      } catch (error) {
        void names.stop("letGo").catch(() => {});
        throw error;
      }
    },
    remains: remains({ runDirectory, docker }, files, leftTable),
    became: (life) => {
      if (life.state === "not-joined" || life.state === "cannot-run") left.letGo();
      if (life.state === "member") left.served();
      report.became(life);
    },
    isLast: () => supervisor.isStoppedForGood(),
    log,
  });
}

function remains(
  { runDirectory, docker }: Pick<AgentConfig, "runDirectory" | "docker">,
  files: AgentFiles,
  leftTable: LeftTable,
): Remains {
  const found = () => remainsOf(runDirectory, files);
  return {
    busy: async () => (await found()).busy(),
    withdraw: async () => {
      if (docker === undefined) return { cutOff: [], stays: [] };
      const ended = await withdrawViews(new EngineClient(docker.engineSocket), () => {});
      rememberCutOff(new CutOffFile(files.cutOff), ended.cutOff);
      return ended;
    },
    hold: async () => {
      leftTable.letGo();
      return (await found()).hold();
    },
    clear: async (containers) => {
      try {
        await (await found()).remove(containers);
      } finally {
        await leftTable.look().catch(() => {});
      }
    },
  };
}

/** Says what the host is, to who started the service and in the log. */
class LifeReport {
  readonly #log: Log;
  readonly #supervisor: Supervisor;
  /** Why it could not run; logged once, not with each try. */
  #said = "";

  constructor(log: Log, supervisor: Supervisor) {
    this.#log = log;
    this.#supervisor = supervisor;
  }

  became(life: Life): void {
    const { state } = life;
    if (state === "starting" || state === "stopping") return;
    const why = whyNoMember(life);
    const before = this.#said;
    this.#said = state === "cannot-run" ? life.failure.message : "";
    if (state !== "cannot-run")
      this.#log.info(
        { state, ...(why === undefined ? {} : { next: why.next }) },
        "this host's state",
      );
    else if (this.#said !== before) this.#log.error({ ...life.failure }, "the agent cannot run");
    this.#supervisor.status(why?.message ?? "takes part in its cluster");
    // It serves, if only to say why it cannot: Docker and the rest of the host go on.
    if (state !== "ending") this.#supervisor.ready();
  }
}
