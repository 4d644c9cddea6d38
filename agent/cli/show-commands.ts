import type { ControllerStatus } from "../../controller/admin-api.ts";
import type { KeySchedule, NetworkRecord } from "../../shared/cluster-state.ts";
import { type Failure, OverlayError } from "../../shared/errors.ts";
import type { ProofStatus } from "../proving.ts";
import type { Exposed } from "../exposing.ts";
import type { Finding } from "../findings.ts";
import type { NotRunning, Status } from "../status.ts";
import { callAgent, callController, type Context, parseCount, parseDuration } from "./context.ts";
import { print, progress, table } from "./output.ts";
import { lossText } from "../store/loss.ts";

/** Commands that show or change what is there, through the agent's and the controller's sockets. */

export async function status(context: Context): Promise<void> {
  const found = await callAgent<Status | NotRunning>(context, "GET", "/v1/status");
  if (!found.joined && found.problem !== undefined) throw new OverlayError(found.problem);
  const controllerHere = await controllerStatus(context);
  print(context, { ...found, controllerHere }, () =>
    [
      found.joined ? statusText(found) : "not joined: see `overlay-ts init` and `join`",
      ...controllerText(
        controllerHere?.problem ?? (found.joined ? found.controller.failure : undefined),
      ),
    ].join("\n"),
  );
}

/** Of the controller on this host; undefined: none runs here. */
function controllerStatus(context: Context): Promise<ControllerStatus | undefined> {
  return callController<ControllerStatus>(context, "GET", "/v1/status").catch(() => undefined);
}

/** What only it can decide is not decided now; the rest goes on. */
function controllerText(problem: Failure | undefined): string[] {
  if (problem === undefined) return [];
  return ["", `controller: ${problem.message}`, `  → ${problem.next ?? ""}`];
}

function statusText(found: Status): string {
  const proofs = new Map(found.dataPath.map((proof) => [proof.node, proof]));
  const peers = found.peers.map(({ node, name, connected }) => {
    const proof = proofs.get(node);
    const path = proof?.roundTripMs === undefined ? "NO" : `${proof.roundTripMs.toFixed(2)} ms`;
    return [name, connected ? "yes" : "NO", proof === undefined ? "?" : path];
  });
  const networks = found.networks.map((network) => [
    network.name ?? network.id,
    String(network.endpoints),
    String(network.remotes),
    network.inSync ? "yes" : "no",
    network.pass?.failure?.message ?? "ok",
  ]);
  const ignored = found.networks.flatMap((network) =>
    network.ignored.map(
      ({ node, endpoint, reason }) =>
        `ignored on ${network.name ?? network.id}: ${endpoint.slice(0, 12)} of ${node}: ${reason}`,
    ),
  );
  const dropped = Object.entries(found.guards.dropped).filter(([, count]) => count > 0);
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
    ...(found.otherVersions ?? []).flatMap(({ failure: { message, next = "" } }) => [
      "",
      `${message}: ${next}`,
    ]),
    ...diskText(found.disk),
    ...(found.guards.failure === undefined ? [] : ["", `guards: ${found.guards.failure.message}`]),
    ...(dropped.length === 0
      ? []
      : ["", `dropped: ${dropped.map(([why, n]) => `${why} ${n}`).join(", ")}`]),
    ...refusedText(found.plugin),
    ...(ignored.length === 0 ? [] : ["", ...ignored]),
  ].join("\n");
}

/** An agent of before has none. */
function diskText(disk: Status["disk"] | undefined): string[] {
  if (disk === undefined) return [];
  const { owed, failure, losses } = disk;
  const refusing = failure && [
    `disk: ${failure.message} (${failure.next ?? ""}); new containers are refused, ${owed} entries wait`,
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

/** Peers of a class, and why it does not stand. Undefined: it is not in use. */
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
  const failure = status.failure === undefined ? [] : [status.failure.message];
  return ["", table(head, rows), ...failure];
}

function dockerText(docker: Status["docker"]): string[] {
  if (docker === undefined) return [];
  const conflicts = docker.conflicts.map(
    ({ name, driver }) => `not shown here: ${name}, the name of a ${driver} network on this engine`,
  );
  return [
    ...(docker.problem === undefined ? [] : [`docker: ${docker.problem}`]),
    ...conflicts,
  ].flatMap((line) => ["", line]);
}

/** Only what is wrong: then names of other hosts are not found. */
function namesText(names: Status["names"]): string[] {
  if (names === undefined || names.lastProblem === undefined) return [];
  const { waiting, serving, failed } = names.sandboxes;
  const some = failed === 0 ? "" : ` in ${failed} of ${waiting + serving + failed} containers`;
  return ["", `names of other hosts are not served${some}: ${names.lastProblem}`];
}

function refusedText(plugin: Status["plugin"]): string[] {
  if (plugin === undefined) return [];
  const { names, methods, garbage } = plugin.unknown;
  const unknown = names + methods + garbage;
  const refused = [
    ...Object.entries(plugin.calls).flatMap(([name, { refused: count, late }]) => [
      ...(count > 0 ? [`${name} ${count}`] : []),
      ...(late > 0 ? [`${name} ${late} too late`] : []),
    ]),
    ...(unknown > 0 ? [`no call of ours ${unknown}`] : []),
  ];
  return refused.length === 0 ? [] : ["", `refused to Docker: ${refused.join(", ")}`];
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
      ["HOST", "ADDRESS", "BYTES", "ROUND TRIP"],
      proofs.map(({ name, address, bytes, roundTripMs }) => [
        name,
        address,
        String(bytes),
        roundTripMs === undefined ? "NO ANSWER" : `${roundTripMs.toFixed(2)} ms`,
      ]),
    ),
  );
  return proofs.every(({ roundTripMs }) => roundTripMs !== undefined) ? 0 : 1;
}

interface NodeRow {
  readonly name: string;
  readonly address: string;
  readonly self: boolean;
  readonly controller: boolean;
  readonly connected: boolean;
  readonly dataPathMs?: number;
  readonly networks: number;
}

export async function nodeList(context: Context): Promise<void> {
  const nodes = await callAgent<NodeRow[]>(context, "GET", "/v1/nodes");
  print(context, nodes, () =>
    table(
      ["NAME", "ADDRESS", "MESH", "DATA PATH", "NETWORKS", ""],
      nodes.map((node) => [
        node.name,
        node.address,
        node.connected ? "yes" : "NO",
        node.self ? "-" : node.dataPathMs === undefined ? "NO" : `${node.dataPathMs.toFixed(2)} ms`,
        String(node.networks),
        [node.self ? "this host" : "", node.controller ? "controller" : ""]
          .filter(Boolean)
          .join(", "),
      ]),
    ),
  );
}

export async function nodeRemove(context: Context, name: string): Promise<void> {
  const url = `/v1/nodes?name=${encodeURIComponent(name)}`;
  const removed = await onController(() => callController(context, "DELETE", url));
  print(context, removed, () => `${name} is out; the keys of its networks are being changed`);
}

interface NetworkRow extends NetworkRecord {
  readonly hosts: never;
}
type NetworkInfo = Omit<NetworkRow, "hosts"> & {
  readonly hosts: readonly string[];
  readonly blocks: readonly { block: string; host: string }[];
};

export async function networkList(context: Context): Promise<void> {
  const networks = await callAgent<NetworkInfo[]>(context, "GET", "/v1/networks");
  print(context, networks, () =>
    table(
      ["NAME", "SUBNET", "VNI", "MTU", "ENCRYPTION", "HOSTS"],
      networks.map((network) => [
        network.name ?? `(${network.id.slice(0, 12)})`,
        network.subnets.map(({ subnet }) => subnet).join(","),
        String(network.vni),
        String(network.mtuBytes),
        network.encryption,
        network.hosts.join(",") || "-",
      ]),
    ),
  );
}

export async function networkInspect(context: Context, name: string): Promise<void> {
  const url = `/v1/networks/inspect?name=${encodeURIComponent(name)}`;
  const found = await callAgent<unknown>(context, "GET", url);
  print({ json: true }, found, () => "");
}

export interface NetworkCreateOptions {
  readonly subnet?: string;
  readonly gateway?: string;
  readonly ipRange?: string;
  readonly auxAddress?: readonly string[];
  readonly internal?: boolean;
  readonly opt?: readonly string[];
  readonly label?: readonly string[];
}

export async function networkCreate(
  context: Context,
  name: string,
  options: NetworkCreateOptions,
): Promise<void> {
  const made = await callAgent<NetworkRecord>(context, "POST", "/v1/networks", {
    name,
    subnet: options.subnet,
    gateway: options.gateway,
    range: options.ipRange,
    reserved: options.auxAddress,
    internal: options.internal,
    options: pairs(options.opt),
    labels: pairs(options.label),
  });
  print(context, made, () => `${name}  ${made.subnets.map(({ subnet }) => subnet).join(",")}`);
}

export async function networkRemove(context: Context, name: string): Promise<void> {
  const url = `/v1/networks?name=${encodeURIComponent(name)}`;
  const removed = await callAgent(context, "DELETE", url);
  print(context, removed, () => `${name} is gone from the cluster`);
}

export async function networkExpose(context: Context, name: string): Promise<void> {
  const url = `/v1/networks/exposed?name=${encodeURIComponent(name)}`;
  const exposed = await callAgent<Exposed>(context, "POST", url);
  print(context, exposed, () => `${exposed.ips.join(" ")} on ${exposed.link}`);
}

export async function networkHide(context: Context, name: string): Promise<void> {
  const url = `/v1/networks/exposed?name=${encodeURIComponent(name)}`;
  const hidden = await callAgent(context, "DELETE", url);
  print(context, hidden, () => `this host has no address in ${name} any more`);
}

interface EndpointRow {
  readonly network: string;
  readonly host: string;
  readonly id: string;
  readonly ips: readonly string[];
  readonly mac: string;
  readonly role: "container" | "host";
}

export async function endpointList(context: Context, network: string | undefined): Promise<void> {
  const query = network === undefined ? "" : `?network=${encodeURIComponent(network)}`;
  const endpoints = await callAgent<EndpointRow[]>(context, "GET", `/v1/endpoints${query}`);
  print(context, endpoints, () =>
    table(
      ["NETWORK", "HOST", "ENDPOINT", "ADDRESS", "MAC", "OF"],
      endpoints.map(({ network: on, host, id, ips, mac, role }) => [
        on,
        host,
        id.slice(0, 12),
        ips.join(","),
        mac,
        role,
      ]),
    ),
  );
}

export interface RotateOptions {
  readonly node?: string;
  readonly network?: string;
}

export async function keyRotate(context: Context, options: RotateOptions): Promise<void> {
  if (options.node !== undefined && options.network !== undefined)
    throw new OverlayError({
      code: "INVALID",
      message: "--node and --network are keys of different kinds",
      next: "give one of them",
    });
  const query = new URLSearchParams({ ...options }).toString();
  const answer = await callAgent<{ rotated: string[] }>(
    context,
    "POST",
    `/v1/keys/rotate?${query}`,
  );
  print(context, answer, () =>
    answer.rotated.length === 0
      ? "this host has no IPsec keys: there is nothing to change"
      : `new keys are being made: ${answer.rotated.join(", ")}`,
  );
}

export interface ScheduleOptions {
  readonly ipsec?: string;
  readonly ipsecPackets?: string;
  readonly ipsecBytes?: string;
  readonly gossip?: string;
}

/** Shows the schedule, and changes what is given of it. */
export async function keySchedule(context: Context, options: ScheduleOptions): Promise<void> {
  const given = <T>(text: string | undefined, parse: (text: string) => T): T | undefined =>
    text === undefined ? undefined : parse(text);
  const body = {
    ipsecMs: given(options.ipsec, parseDuration),
    ipsecPackets: given(options.ipsecPackets, parseCount),
    ipsecBytes: given(options.ipsecBytes, parseCount),
    gossipMs: given(options.gossip, parseDuration),
  };
  const held = await onController(() =>
    callController<KeySchedule>(context, "POST", "/v1/key-schedule", body),
  );
  print(context, held, () =>
    [
      `IPsec   after ${held.ipsecMs / 1000} s, ${held.ipsecPackets} packets or ${held.ipsecBytes} bytes, whatever comes first`,
      `gossip  after ${held.gossipMs / 1000} s`,
    ].join("\n"),
  );
}

export interface TokenOptions {
  readonly ttl: string;
  readonly uses: string;
  readonly network?: readonly string[];
}

export async function tokenCreate(context: Context, options: TokenOptions): Promise<void> {
  const body = {
    ttlMs: parseDuration(options.ttl),
    uses: parseCount(options.uses),
    networks: options.network,
  };
  const made = await onController(() =>
    callController<{ token: string; expiresAtMs: number }>(context, "POST", "/v1/tokens", body),
  );
  print(context, made, () => made.token);
  progress(`holds until ${new Date(made.expiresAtMs).toISOString()}, for ${options.uses} hosts`);
}

/** @throws UNREACHABLE with where to run the command instead. */
async function onController<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof OverlayError && error.code === "UNREACHABLE")
      throw new OverlayError(
        {
          code: "UNREACHABLE",
          message: "no controller runs on this host",
          next: "run this on the controller's host (see `overlay-ts node ls`), or start it: `systemctl start overlay-ts-controller`",
        },
        { cause: error },
      );
    throw error;
  }
}

function pairs(list: readonly string[] | undefined): Record<string, string> {
  const named = new Map<string, string>();
  for (const text of list ?? []) {
    const at = text.indexOf("=");
    const [name, value] = at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
    if (name === "" || named.has(name))
      throw new OverlayError({
        code: "INVALID",
        message: name === "" ? `no name before = in ${text}` : `${name} is given twice`,
        next: "give each option and label once, as name=value",
      });
    named.set(name, value);
  }
  return Object.fromEntries(named);
}
