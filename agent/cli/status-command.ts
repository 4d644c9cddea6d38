import type { ControllerStatus } from "../../controller/admin-api.ts";
import { asFailure, type Failure, OverlayError } from "../../shared/errors.ts";
import { NotServed } from "../../shared/node/unix-http.ts";
import { counted } from "../../shared/text.ts";
import { leftOutText } from "../core/names/left-out.ts";
import { isNarrow } from "../core/liveness/narrow-paths.ts";
import type { ProofStatus } from "../membership/failure-detector.ts";
import type { Problem } from "../core/events/view.ts";
import type { Finding } from "../api/verify.ts";
import type { NotRunning, Status } from "../api/status.ts";
import { callAgent, callController, type Context } from "./context.ts";
import { print, table } from "./output.ts";
import { ignoredText } from "./ignored-text.ts";
import { refusedText } from "./refused-text.ts";
import { lossText } from "../store/loss.ts";

/** What this host says of itself: `status`, `verify`, `probe`. */

export async function status(context: Context): Promise<void> {
  const found = await callAgent<Status | NotRunning>(context, "GET", "/v1/status");
  if (!found.joined && found.problem !== undefined) throw new OverlayError(found.problem);
  const controllerHere = await controllerStatus(context);
  print(context, { ...found, controllerHere }, () =>
    [
      found.joined ? statusText(found) : notRunningText(found),
      ...metricsText(found.metrics),
      ...controllerText(
        controllerHere?.problem ?? (found.joined ? found.controller.failure : undefined),
      ),
    ].join("\n"),
  );
}

function notRunningText({ state }: NotRunning): string {
  return state === "starting"
    ? "this host is a member; its agent is starting"
    : "not joined: see `overlay-ts init` and `join`";
}

/** Of the controller on this host, or why one that runs does not say; undefined: none runs here. */
async function controllerStatus(
  context: Context,
): Promise<ControllerStatus | Pick<ControllerStatus, "problem"> | undefined> {
  try {
    return await callController<ControllerStatus>(context, "GET", "/v1/status");
  } catch (error) {
    return error instanceof NotServed ? undefined : { problem: asFailure(error) };
  }
}

/** Without a controller its decisions wait; everything else goes on. */
function controllerText(problem: Failure | undefined): string[] {
  if (problem === undefined) return [];
  return ["", `controller: ${problem.message}`, `  → ${problem.next ?? ""}`];
}

function statusText(found: Status): string {
  const proofs = new Map(found.dataPath.map((proof) => [proof.node, proof]));
  const peers = found.peers.map(({ node, name, connected, dialled }) => {
    const proof = proofs.get(node);
    const mesh = connected ? "yes" : dialled === false ? "-" : "NO";
    return [name, mesh, proof === undefined ? "?" : pathText(proof, "NO")];
  });
  const networks = found.networks.map((network) => [
    network.name ?? network.id,
    String(network.endpoints),
    String(network.remotes),
    syncText(network),
    network.pass?.failure?.message ?? "ok",
  ]);
  const dropped = [
    ...Object.entries(found.guards.dropped),
    ...Object.entries(found.egress?.dropped ?? {}).map(
      ([why, n]) => [`way out: ${why}`, n] as const,
    ),
  ].filter(([, count]) => count > 0);
  const removed = found.removed && [found.removed.message, `  → ${found.removed.next ?? ""}`, ""];
  return [
    ...(removed ?? []),
    `${found.name}  cluster ${found.cluster}  revision ${found.revision}  controller ${found.controller.address}:${found.controller.port}`,
    "",
    table(["PEER", "MESH", "DATA PATH"], peers),
    "",
    table(["NETWORK", "HERE", "ELSEWHERE", "IN SYNC", "KERNEL"], networks),
    ...found.tooLarge.flatMap(({ name, id, needsUnderlayBytes }) => [
      "",
      `not for this host: ${name ?? id}, which needs an underlay of ${needsUnderlayBytes} bytes`,
    ]),
    ...encryptionText(found.encryption),
    ...dockerText(found.docker),
    ...namesText(found.names),
    ...vipsText(found.virtualAddresses),
    ...(found.naming?.leftOutNames ?? []).flatMap((one) => ["", leftOutText(one)]),
    ...(found.otherVersions ?? []).flatMap(({ failure: { message, next = "" } }) => [
      "",
      `${message}: ${next}`,
    ]),
    ...egressText(found.egress),
    ...diskText(found.disk),
    ...problemsText(found.problems ?? []),
    ...(dropped.length === 0
      ? []
      : ["", `dropped: ${dropped.map(([why, n]) => `${why} ${n}`).join(", ")}`]),
    ...refusedText(found.plugin, Date.now()),
    ...ignoredText(found.networks),
  ].join("\n");
}

function pathText(proof: ProofStatus, silent: string): string {
  if (isNarrow(proof)) return "SMALL ONLY";
  return proof.roundTripMs === undefined ? silent : `${proof.roundTripMs.toFixed(2)} ms`;
}

function syncText({ alone, inSync }: Status["networks"][number]): string {
  if (alone) return "alone";
  return inSync ? "yes" : "no";
}

/** These have lines of their own: at the top, with what was lost, with what is too much, at the end. */
const SAID_ELSEWHERE: readonly Problem["what"][] = [
  "membership",
  "disk",
  "names",
  "controller link",
];

function problemsText(problems: readonly Problem[]): string[] {
  return problems
    .filter(({ what }) => !SAID_ELSEWHERE.includes(what))
    .flatMap(({ what, network, message, next }) => [
      "",
      `${what}: ${network === undefined ? "" : `${network.slice(0, 12)}: `}${message}`,
      ...(next === undefined ? [] : [`  → ${next}`]),
    ]);
}

/** Where further containers get docker_gwbridge, and why. An agent of before has none. */
function egressText(egress: Status["egress"]): string[] {
  const why = egress?.blocked.ipv4;
  if (why === undefined) return [];
  return ["", `way out: by docker_gwbridge, for ${why.message}`, `  → ${why.next ?? ""}`];
}

/** An agent of before has none. */
function diskText(disk: Status["disk"] | undefined): string[] {
  if (disk === undefined) return [];
  const { owed, failure, losses } = disk;
  const refusing = failure && [
    `disk: ${failure.message} (${failure.next ?? ""}); new containers are refused, ${counted(owed, "entry waits", "entries wait")}`,
  ];
  return [
    ...(refusing ?? []),
    ...losses.map((loss) => `lost from disk: ${lossText(loss)}`),
  ].flatMap((line) => ["", line]);
}

function encryptionText({ wireguard, ipsec }: Status["encryption"]): string[] {
  const age = (seconds: number | undefined): string =>
    seconds === undefined ? "never" : `${seconds} s ago`;
  return [
    ...classText(wireguard, ["WIREGUARD", "PATH", "HANDSHAKE", "ENDPOINT"], (peer) => [
      age(peer.handshakeSecondsAgo),
      peer.endpoint ?? "-",
    ]),
    ...classText(ipsec, ["IPSEC", "PATH", "KEY", "PACKETS"], (peer) => [
      age(peer.keySeconds),
      String(peer.packets),
    ]),
  ];
}

/** Peers of a class, and why it cannot be used. Undefined: it is not in use. */
function classText<P extends { name: string; path: boolean; why: string | undefined }>(
  status: { readonly peers: readonly P[]; readonly failure: Failure | undefined } | undefined,
  head: readonly string[],
  more: (peer: P) => string[],
): string[] {
  if (status === undefined) return [];
  const rows = status.peers.map((peer) => [
    peer.name,
    peer.path ? "yes" : `NO: ${peer.why ?? "no key yet"}`,
    ...more(peer),
  ]);
  return ["", table(head, rows)];
}

function dockerText(docker: Status["docker"]): string[] {
  if (docker === undefined) return [];
  const conflicts = docker.conflicts.map(
    ({ name, driver }) => `not shown here: ${name}, the name of a ${driver} network on this engine`,
  );
  return [
    ...conflicts,
    ...(docker.cutOff ?? []).map(
      ({ network, name }) =>
        `${name} is without ${network}, which it had before this host left: \`docker network connect ${network} ${name}\``,
    ),
  ].flatMap((line) => ["", line]);
}

/** Only what is wrong: then names answer their members. */
function vipsText(found: Status["virtualAddresses"]): string[] {
  if (found === undefined || found.vips === 0) return [];
  const { clients, lastProblem, without } = found;
  const failed =
    lastProblem === undefined
      ? []
      : [`virtual addresses are not served in ${clients.failed} containers: ${lastProblem}`];
  const old =
    without.length === 0
      ? []
      : [
          `hosts of an older version, where names with a virtual address answer their members: ${without.join(", ")}`,
        ];
  return failed.length + old.length === 0 ? [] : ["", ...failed, ...old];
}

/** Only what is wrong: then names of other hosts are not found. */
function namesText(names: Status["names"]): string[] {
  if (names === undefined || names.lastProblem === undefined) return [];
  const { waiting, serving, failed } = names.sandboxes;
  const some = failed === 0 ? "" : ` in ${failed} of ${waiting + serving + failed} containers`;
  return ["", `names of other hosts are not served${some}: ${names.lastProblem}`];
}

/** Only what is wrong. */
function metricsText(metrics: Status["metrics"]): string[] {
  const { failure } = metrics ?? {};
  return failure === undefined ? [] : ["", failure.message, `  → ${failure.next ?? ""}`];
}

/** Exit status 1 when something is not as it should be. */
export async function verify(context: Context): Promise<number> {
  const { findings } = await callAgent<{ findings: Finding[] }>(context, "GET", "/v1/verify");
  print(context, { findings }, () =>
    findings.length === 0
      ? "kernel, Docker and tables agree"
      : findings
          .map(({ what, network, name = network, text }) =>
            [name === undefined ? what : `${what} ${name}`, text].join(": "),
          )
          .join("\n"),
  );
  return findings.length === 0 ? 0 : 1;
}

/** Exit status 1 when a host does not answer. */
export async function probe(context: Context): Promise<number> {
  const proofs = await callAgent<ProofStatus[]>(context, "POST", "/v1/probe");
  print(context, proofs, () =>
    table(
      ["HOST", "THROUGH", "ADDRESS", "BYTES", "ROUND TRIP"],
      proofs.map((proof) => [
        proof.name,
        proof.encryption ?? "none",
        proof.address,
        String(proof.bytes),
        pathText(proof, "NO ANSWER"),
      ]),
    ),
  );
  return proofs.every(({ roundTripMs }) => roundTripMs !== undefined) ? 0 : 1;
}
