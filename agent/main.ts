import { closeSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { bare } from "../shared/node/routes.ts";
import { type UnixAddress, UnixHttpServer } from "../shared/node/unix-http.ts";
import { asFailure, type Failure, OverlayError } from "../shared/errors.ts";
import type { Supervisor } from "../shared/node/supervisor.ts";
import { systemClock } from "../shared/node/system.ts";
import { startWatchdog } from "../shared/node/watchdog.ts";
import type { Ip } from "../shared/ip.ts";
import type { Log } from "../shared/ports.ts";
import { Agent } from "./agent.ts";
import { EngineClient } from "./docker/engine-client.ts";
import type { NameServer } from "./dns/port.ts";
import { delegateIpam, delegateNetwork } from "./docker/delegate.ts";
import { CALL_TIMEOUT_MS, PluginServer } from "./docker/plugin-server.ts";
import { LinuxNameServer } from "./dns/linux-name-server.ts";
import type { WaitingQuestions } from "./dns/waiting-questions.ts";
import { setClassDown } from "./encryption/ipsec/class-devices.ts";
import { LinuxIpsec } from "./encryption/ipsec/linux-ipsec.ts";
import { LinuxWireguard } from "./encryption/linux-wireguard.ts";
import { hostWireguardKey } from "./encryption/wireguard-keys.ts";
import { Libp2pMesh } from "./gossip/libp2p-mesh.ts";
import { LinuxDataPathProof } from "./kernel/data-path-proof.ts";
import { LinuxKernel } from "./kernel/linux-kernel.ts";
import { transportNetns } from "./kernel/netns.ts";
import { NftGuards } from "./kernel/nft-guards.ts";
import { localRoutes } from "./local-api.ts";
import { type Member, readMember } from "./member.ts";
import { agentFiles, forgetMembership, readMembership } from "./membership.ts";
import { hostSubnets } from "./node-facts.ts";
import { notJoined } from "./overlay-ipam.ts";
import type { Loss } from "./store/loss.ts";
import { openStore } from "./store/open-store.ts";

export interface AgentConfig {
  readonly dataDirectory: string;
  readonly runDirectory: string;
  /** Undefined: a host without an engine. */
  readonly docker:
    { readonly engineSocket: string; readonly pluginSocket: UnixAddress } | undefined;
}

const WAIT_MS = 100;
const RETRY_MS = 2000;
/** For Docker's call that meets an agent at its start, which is bounded itself. */
const STARTING_TIMEOUT_MS = 150_000;

/** What a service gets from who started it. */
export interface AgentService {
  readonly log: Log;
  readonly supervisor: Supervisor;
  /** In containers' sockets that came back from the agent before; undefined: none did. */
  readonly waiting: WaitingQuestions | undefined;
}

/**
 * This host's agent until `signal` aborts: first without a cluster, from `join` or `init` on with
 * it, and without one again after `leave`.
 */
export async function runAgent(
  config: AgentConfig,
  { log, supervisor, waiting }: AgentService,
  signal: AbortSignal,
): Promise<void> {
  const files = agentFiles(config.dataDirectory);
  mkdirSync(files.directory, { recursive: true, mode: 0o700 });
  let agent: Agent | undefined;
  let problem: Failure | undefined;
  let leave: (membershipIs: "forgotten" | "kept") => Promise<void> = () =>
    Promise.reject(notJoined());
  let withdrawn = false;
  /** The first agent of this process takes them. */
  let adopted: ReadonlyMap<string, number> = supervisor.descriptors.kept;
  let started = Promise.withResolvers<Agent>();
  /** A member that is just starting lets Docker wait; one that is none says so. */
  const member = async (): Promise<Agent> => {
    if (agent === undefined && withdrawn) throw hasWithdrawn();
    if (agent === undefined && readMembership(files) === undefined) throw notJoined();
    return started.promise;
  };
  // From the start: Docker keeps a plugin it found, and is told why while there is no cluster.
  const plugin =
    config.docker &&
    new PluginServer(config.docker.pluginSocket, {
      network: delegateNetwork(async () => (await member()).driver),
      ipam: delegateIpam(async () => (await member()).ipam),
      log,
      timeoutMs: () =>
        agent === undefined && problem === undefined ? STARTING_TIMEOUT_MS : CALL_TIMEOUT_MS,
    });
  const local = new UnixHttpServer(join(config.runDirectory, "agent.sock"), {
    ...localRoutes(
      () => agent,
      () => problem,
      () => plugin?.counts(),
    ),
    "POST /v1/leave": bare(async () => {
      await leave("forgotten");
      return { left: true };
    }),
    "POST /v1/withdraw": bare(async () => {
      await leave("kept");
      return { withdrawn: true };
    }),
  });
  await local.start();
  await plugin?.start();
  // Also of one that does not get to its end with starting.
  let watched: Agent | undefined;
  const endWatch = startWatchdog({
    supervisor,
    log,
    clock: systemClock,
    owed: () => watched?.owed() ?? {},
  });
  /** What containers' sockets hold, nobody will answer: Docker's resolver does. */
  const letGo = (): void => {
    waiting?.takeOver();
    for (const [name, fd] of adopted) {
      supervisor.descriptors.release(name);
      closeSync(fd);
    }
    adopted = new Map();
  };
  /** A port that is taken, a kernel that lacks something, a damaged file: told to who asks, and tried again. */
  const cannotStart = async (why: unknown): Promise<void> => {
    problem = asFailure(why);
    log.error({ ...problem }, "the agent cannot start");
    supervisor.status(problem.message);
    // It serves, if only to say why it cannot: Docker and the rest of the host go on.
    supervisor.ready();
    watched = undefined;
    withdrawn = false;
    await delay(RETRY_MS, undefined, { signal }).catch(() => {});
  };
  /** Of a host whose files cannot be read: what stands in the kernel stays, nobody knows whose it is. */
  const forget: typeof leave = (membershipIs) => {
    if (membershipIs === "forgotten") forgetMembership(files);
    return membershipIs === "forgotten" ? Promise.resolve() : Promise.reject(notJoined());
  };
  const lost: Loss[] = [];
  try {
    while (!signal.aborted) {
      let held: Member | undefined;
      try {
        held = await readMember(files);
      } catch (error) {
        letGo();
        leave = forget;
        await cannotStart(error);
        continue;
      }
      if (held === undefined) {
        letGo();
        leave = () => Promise.reject(notJoined());
        problem = undefined;
        log.info({}, "not in a cluster yet: waiting for `overlay-ts init` or `join`");
        supervisor.status("in no cluster yet");
        supervisor.ready();
        while (!signal.aborted && !existsSync(files.membership)) await delay(WAIT_MS);
        continue;
      }
      const leaving = new AbortController();
      const left = Promise.withResolvers<void>();
      left.promise.catch(() => {});
      // Who answers in them, or does not, is decided there from now on.
      const patienceMs = waiting?.takeOver();
      const keeper = supervisor.descriptors;
      const names = new LinuxNameServer({ adopted, patienceMs, keeper }, log);
      adopted = new Map();
      let made: Agent;
      try {
        made = makeAgent(config, held, names, lost, log);
      } catch (error) {
        leave = forget;
        await names.stop("letGo").catch(() => {});
        await cannotStart(error);
        continue;
      }
      leave = (membershipIs) => {
        withdrawn = membershipIs === "kept";
        leaving.abort();
        return left.promise;
      };
      watched = made;
      try {
        await made.start();
      } catch (error) {
        left.reject(error);
        await made.stop("letGo").catch(() => {});
        await cannotStart(error);
        continue;
      }
      problem = undefined;
      waiting?.served();
      // Only now: a call that came before would find half of it.
      agent = made;
      started.resolve(made);
      supervisor.status(`in cluster ${held.membership.cluster}`);
      supervisor.ready();
      await serve(made, log, AbortSignal.any([signal, leaving.signal]));
      if (leaving.signal.aborted) {
        await made.withdraw();
        if (!withdrawn) forgetMembership(files);
        log.info(
          { cluster: held.membership.cluster },
          withdrawn ? "withdrawn" : "left the cluster",
        );
      }
      // Docker's calls under way are answered by an agent that still works.
      if (signal.aborted) await plugin?.stop();
      agent = undefined;
      watched = undefined;
      started = Promise.withResolvers();
      const isLast = leaving.signal.aborted || (await supervisor.isStoppedForGood());
      await made.stop(isLast ? "letGo" : "handOver");
      left.resolve();
      if (!withdrawn) continue;
      const failure = hasWithdrawn();
      problem = failure.toFailure();
      supervisor.status(failure.message);
      await aborted(signal);
    }
  } finally {
    endWatch();
    // Who still waits for a start that does not come any more.
    started.promise.catch(() => {});
    started.reject(new OverlayError({ code: "UNREACHABLE", message: "the agent is stopping" }));
    await plugin?.stop();
    await local.stop();
  }
}

async function serve(agent: Agent, log: Log, until: AbortSignal): Promise<void> {
  agent.docker?.start();
  log.info({ node: agent.identity.node, cluster: agent.membership.cluster }, "agent ready");
  await aborted(until);
  await agent.docker?.stop();
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
}

function hasWithdrawn(): OverlayError {
  return new OverlayError({
    code: "NOT_JOINED",
    message: "this host has withdrawn from its networks; its membership is kept",
    next: "to take part again: `systemctl restart overlay-ts-agent`",
  });
}

/** @throws STORE for a database of a newer version. */
function makeAgent(
  { runDirectory, dataDirectory, docker }: AgentConfig,
  { membership, identity, node, settings, rootKey }: Member,
  names: NameServer,
  lost: Loss[],
  log: Log,
): Agent {
  const files = agentFiles(dataDirectory);
  const netnsDirectory = join(runDirectory, "netns");
  const opening = { scratch: runDirectory, wallMs: systemClock.wallMs() };
  const { store, losses } = openStore(files.database, opening);
  for (const loss of losses) log.error({ ...loss }, "lost from disk");
  lost.push(...losses);
  const mesh = new Libp2pMesh(
    {
      identitySeed: identity.seed,
      listen: { address: node.behindNat ?? node.address, port: settings.ports.gossip },
      claim: membership.claim,
      rootKey,
    },
    log,
  );
  const adapters = {
    mesh,
    control: mesh.control,
    store,
    losses: lost,
    kernel: new LinuxKernel({ netnsDirectory }),
    guards: new NftGuards({}),
    names,
    engine: docker && new EngineClient(docker.engineSocket),
    hostSubnets,
    bootId: readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
    proof: new LinuxDataPathProof({ netnsDirectory }),
    encryption: {
      wireguard: new LinuxWireguard({ netnsDirectory }),
      wireguardKey: () => hostWireguardKey(files.wireguardKey),
      transportGuards: () => new NftGuards({ hostNetns: transportNetns(netnsDirectory) }),
      ipsec: (local: Ip, udpPort: number) => new LinuxIpsec({ local, udpPort }),
      classDown: (udpPort: number) => setClassDown(netnsDirectory, udpPort),
    },
  };
  return new Agent(identity, membership, adapters, log);
}
