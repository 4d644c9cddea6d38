import { readFileSync } from "node:fs";
import { join } from "node:path";
import { measureAttach } from "../bench/attach.ts";
import { measureFdb } from "../bench/fdb.ts";
import { measureIdle } from "../bench/idle.ts";
import { measureNames } from "../bench/names-propagation.ts";
import { measurePropagation } from "../bench/propagation.ts";
import { round } from "../bench/statistics.ts";
import { measureThroughput } from "../bench/throughput.ts";
import type { LabHost } from "../support/lab-host.ts";
import { addressOf, OURS, start } from "./containers.ts";
import { type Formed, pairsOfHosts } from "./forming.ts";
import { engineVersions, IMAGE, type Lab } from "./lab.ts";

/** What the lab measured of itself. Times in milliseconds; where a figure was not measured: null. */
export interface Proof {
  /** Of each host; empty without engines. */
  readonly engines: readonly string[];
  /** Seconds; see forming.ts. */
  readonly formS: number | null;
  readonly convergeS: number | null;
  readonly pairsOk: number;
  readonly pairsTotal: number;
  /** The same by name; null without engines. */
  readonly pairsByNameOk: number | null;
  /** Over a bridge network made by `docker network create`, which has Docker's resolver as ours. */
  readonly attachOverBridge: number | null;
  /** Over Docker's default bridge, without resolver. */
  readonly attachOverDefaultBridge: number | null;
  /** Over a plugin that does nothing: what of the time is ours. */
  readonly attachOverStub: number | null;
  /** `--internal`, without docker_gwbridge, over the bridge. */
  readonly attachInternalOverBridge: number | null;
  readonly firstAnswerMs: number | null;
  readonly propagationP50Ms: number | null;
  readonly propagationP99Ms: number | null;
  /** From a container's first instruction until another host's container finds it by name. */
  readonly nameComesP50Ms: number | null;
  readonly nameComesP99Ms: number | null;
  /** From its process's end until it is found no longer. */
  readonly nameGoesP50Ms: number | null;
  readonly nameGoesP99Ms: number | null;
  readonly tcpOverHandmade: number | null;
  readonly tcpOverLink: number | null;
  readonly fdbOverBridgeBatch: number | null;
  readonly idlePrivateMb: number | null;
  readonly idleCpuPercent: number | null;
  readonly idleWakeUps: number | null;
  readonly idleMeshBytes: number | null;
}

/** How long to look: the lab shows, the benchmark measures. */
export interface Effort {
  readonly attachRounds: number;
  readonly propagationContainers: number;
  readonly namesContainers: number;
  readonly tcpPairs: number;
  readonly tcpSeconds: number;
  readonly fdbEntries: number;
  readonly fdbRounds: number;
  readonly idleSeconds: number;
}

export const QUICK: Effort = {
  attachRounds: 5,
  propagationContainers: 20,
  namesContainers: 10,
  tcpPairs: 2,
  tcpSeconds: 1,
  fdbEntries: 10_000,
  fdbRounds: 3,
  idleSeconds: 10,
};

export const THOROUGH: Effort = {
  attachRounds: 25,
  propagationContainers: 500,
  namesContainers: 200,
  tcpPairs: 12,
  tcpSeconds: 2,
  fdbEntries: 20_000,
  fdbRounds: 9,
  idleSeconds: 60,
};

export const NETWORK = "app";

const container = (host: LabHost): string => `lab-${host.name}`;

/** The network, made by h1's own docker, and a container on each host. */
export async function populate(lab: Lab, say: (text: string) => void): Promise<void> {
  const [first] = lab.hosts;
  say("docker network create -d overlay-ts --attachable --ipam-driver overlay-ts app");
  await first?.docker(...OURS, NETWORK);
  say("a container on each host");
  for (const host of lab.hosts) {
    await host.waitForNetwork(NETWORK);
    await start(host, container(host), NETWORK);
  }
}

/** Every container pings every other one, by its address and by its name. */
export async function pairs(
  lab: Lab,
): Promise<{ ok: number; byName: number; total: number; lost: string[] }> {
  const lost: string[] = [];
  let [ok, byName, total] = [0, 0, 0];
  for (const from of lab.hosts)
    for (const to of lab.hosts) {
      if (from === to) continue;
      total++;
      const answers = async (target: string): Promise<boolean> => {
        const answered = await answersTo(from, target);
        if (!answered) lost.push(`${from.name} → ${to.name} (${target})`);
        return answered;
      };
      if (await answers(await addressOf(to, container(to), NETWORK))) ok++;
      if (await answers(container(to))) byName++;
    }
  return { ok, byName, total, lost };
}

function answersTo(from: LabHost, target: string): Promise<boolean> {
  const ping = ["exec", container(from), "/bin/ping", "-c", "2", "-W", "2", target];
  return from.docker(...ping).then(
    (text) => text.includes(" 0% packet loss"),
    () => false,
  );
}

export async function prove(lab: Lab, effort: Effort, say: (text: string) => void): Promise<Proof> {
  say("pings between all pairs, by address and by name");
  const { ok, byName, total, lost } = await pairs(lab);
  if (lost.length > 0) say(`no answer: ${lost.join(", ")}`);
  const id = await networkId(lab, NETWORK);
  say("idle agents");
  const idle = await measureIdle(lab, effort.idleSeconds);
  say("time from container start to first answer from another host");
  const firstAnswerMs = await firstAnswer(lab);
  say("docker run on none, bridge and overlay");
  const attach = await measureAttach(lab, NETWORK, effort.attachRounds);
  say(`from container port to the others' FDB, ${effort.propagationContainers} containers`);
  const propagation = await measurePropagation(
    lab,
    { name: NETWORK, id },
    effort.propagationContainers,
  );
  say(`names that come and go, ${effort.namesContainers} containers`);
  const named = await measureNames(lab, NETWORK, effort.namesContainers);
  say("TCP: link, hand-made VXLAN, overlay");
  const tcp = await measureThroughput(lab, NETWORK, {
    pairs: effort.tcpPairs,
    seconds: effort.tcpSeconds,
  });
  say("FDB entries, ours and bridge -batch");
  const fdb = await measureFdb(effort.fdbEntries, effort.fdbRounds);
  return {
    engines: await engineVersions(lab.hosts),
    formS: null,
    convergeS: null,
    pairsOk: ok,
    pairsTotal: total,
    pairsByNameOk: byName,
    attachOverBridge: attach.overBridge,
    attachOverDefaultBridge: attach.overDefaultBridge,
    attachOverStub: attach.overStub,
    attachInternalOverBridge: attach.internalOverBridge,
    firstAnswerMs,
    propagationP50Ms: propagation.p50Ms,
    propagationP99Ms: propagation.p99Ms,
    nameComesP50Ms: named.comesP50Ms,
    nameComesP99Ms: named.comesP99Ms,
    nameGoesP50Ms: named.goesP50Ms,
    nameGoesP99Ms: named.goesP99Ms,
    tcpOverHandmade: tcp.overHandmade,
    tcpOverLink: tcp.overLink,
    fdbOverBridgeBatch: fdb.overBridgeBatch,
    idlePrivateMb: idle.privateMb,
    idleCpuPercent: idle.cpuPercent,
    idleWakeUps: idle.wakeUps,
    idleMeshBytes: idle.meshBytes,
  };
}

export function proofText(proof: Proof): string {
  const ofAll = (count: number): string => `${count} of ${proof.pairsTotal}`;
  const rows: [string, number | string | null, string][] = [
    ["from init until the last join has ended, s", proof.formS, ""],
    ["  then until each host reaches all others, s", proof.convergeS, ""],
    ["pairs that answer", ofAll(proof.pairsOk), "all"],
    ["  the same by name", proof.pairsByNameOk === null ? null : ofAll(proof.pairsByNameOk), "all"],
    ["docker run less none, overlay over bridge network", proof.attachOverBridge, "<= 1.25"],
    ["  the same over a plugin that does nothing", proof.attachOverStub, ""],
    ["  overlay --internal over bridge network", proof.attachInternalOverBridge, ""],
    ["  overlay over Docker's default bridge", proof.attachOverDefaultBridge, ""],
    ["container start to first answer from another host, ms", proof.firstAnswerMs, ""],
    ["port up to FDB entry on the others, p50 ms", proof.propagationP50Ms, "<= 15"],
    ["port up to FDB entry on the others, p99 ms", proof.propagationP99Ms, "<= 60"],
    ["first instruction to name found on another host, p50 ms", proof.nameComesP50Ms, ""],
    ["  p99 ms", proof.nameComesP99Ms, ""],
    ["process end to name gone there, p50 ms", proof.nameGoesP50Ms, ""],
    ["  p99 ms", proof.nameGoesP99Ms, ""],
    ["TCP, overlay over hand-made VXLAN", proof.tcpOverHandmade, ">= 0.93"],
    ["TCP, overlay over the hosts' own link", proof.tcpOverLink, ""],
    ["FDB entries a second, ours over bridge -batch", proof.fdbOverBridgeBatch, ">= 1.5"],
    ["idle agent, private memory, MB", proof.idlePrivateMb, "<= 80"],
    ["idle agent, CPU, %", proof.idleCpuPercent, "<= 0.5"],
    ["  wake-ups a second", proof.idleWakeUps, ""],
    ["  payload of the mesh, in and out, bytes a minute", proof.idleMeshBytes, ""],
  ];
  const figures = rows
    .filter(([, value]) => value !== null)
    .map(([what, value, goal]) =>
      `${what.padEnd(56)} ${String(value).padStart(10)}   ${goal}`.trimEnd(),
    );
  const engines = proof.engines.length === 0 ? [] : [`engines: ${proof.engines.join(", ")}`];
  return [...engines, ...figures].join("\n");
}

/** Without engines there is only the mesh and the data path between the hosts. */
export async function proveWithoutDocker(
  lab: Lab,
  { formS, convergeS }: Formed,
  effort: Effort,
): Promise<Proof> {
  const { ok, total } = await pairsOfHosts(lab);
  const idle = await measureIdle(lab, effort.idleSeconds);
  return {
    engines: [],
    formS,
    convergeS,
    pairsOk: ok,
    pairsTotal: total,
    pairsByNameOk: null,
    attachOverBridge: null,
    attachOverDefaultBridge: null,
    attachOverStub: null,
    attachInternalOverBridge: null,
    firstAnswerMs: null,
    propagationP50Ms: null,
    propagationP99Ms: null,
    nameComesP50Ms: null,
    nameComesP99Ms: null,
    nameGoesP50Ms: null,
    nameGoesP99Ms: null,
    tcpOverHandmade: null,
    tcpOverLink: null,
    fdbOverBridgeBatch: null,
    idlePrivateMb: idle.privateMb,
    idleCpuPercent: idle.cpuPercent,
    idleWakeUps: idle.wakeUps,
    idleMeshBytes: idle.meshBytes,
  };
}

async function firstAnswer(lab: Lab): Promise<number> {
  const [a, b] = lab.hosts;
  if (a === undefined || b === undefined) throw new Error("two hosts are needed");
  const begunMs = performance.now();
  try {
    await a.docker(
      "run",
      "-d",
      "--name",
      "lab-first",
      "--network",
      NETWORK,
      IMAGE,
      "/bin/sleep",
      "1000",
    );
    const address = await addressOf(a, "lab-first", NETWORK);
    // busybox's ping ends with the first answer, and waits for it.
    await b.docker("exec", container(b), "/bin/ping", "-c", "1", "-W", "5", address);
    return round(performance.now() - begunMs, 0);
  } finally {
    await a.docker("rm", "-f", "lab-first");
  }
}

export async function networkId(lab: Lab, name: string): Promise<string> {
  const networks = JSON.parse((await lab.hosts[0]?.overlay("network", "ls", "--json")) ?? "[]") as {
    id: string;
    name?: string;
  }[];
  return networks.find((network) => network.name === name)?.id ?? "";
}

/** The last proof, for `npm run lab -- proof`. */
export function savedProof(directory: string): Proof {
  return JSON.parse(readFileSync(join(directory, "proof.json"), "utf8")) as Proof;
}
