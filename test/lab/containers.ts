import { callUnix } from "../../shared/node/unix-http.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { IMAGE } from "./lab.ts";

export const SLEEP = [IMAGE, "/bin/sleep", "100000"];
/** Nothing in a container heeds SIGTERM without a handler: an engine that ends, or stops it, would wait ten seconds. */
export const ENDS_AT_ONCE = ["--stop-signal", "KILL"];
export const OURS = [
  "network",
  "create",
  "-d",
  "overlay-ts",
  "--attachable",
  "--ipam-driver",
  "overlay-ts",
];
/** What engines of both ages say of a network that they do not have. */
export const GONE = /No such network|network \w+ not found/i;

/** @returns the container's address. */
export async function start(
  host: LabHost,
  name: string,
  network: string,
  ...options: string[]
): Promise<string> {
  const as = ["--name", name, "--network", network, ...ENDS_AT_ONCE];
  await host.docker("run", "-d", ...as, ...options, ...SLEEP);
  return addressOf(host, name, network);
}

/** What is used here of the engine's answer (Docker Engine API, ContainerInspect). */
interface Inspected {
  readonly State: { readonly Pid: number };
  readonly NetworkSettings: {
    readonly Networks: Readonly<Record<string, { readonly IPAddress: string } | undefined>>;
  };
}

/** Of the engine itself: a start of the docker command takes twenty times as long, and labs ask all the time. */
async function inspected(host: LabHost, container: string): Promise<Inspected> {
  return callUnix(host.path("/run/docker.sock"), "GET", `/containers/${container}/json`);
}

export async function addressOf(host: LabHost, name: string, network: string): Promise<string> {
  const { NetworkSettings } = await inspected(host, name);
  const on = NetworkSettings.Networks[network];
  if (on === undefined) throw new Error(`${name} on ${host.name} is not on ${network}`);
  return on.IPAddress;
}

/** Of its first process, among the host's own. Another one after each start. */
export async function pidOf(host: LabHost, container: string): Promise<number> {
  const { State } = await inspected(host, container);
  if (State.Pid === 0) throw new Error(`${container} on ${host.name} does not run`);
  return State.Pid;
}

/** Its network namespace, as this machine sees it. Another one after each start. */
export async function netnsOf(host: LabHost, container: string): Promise<string> {
  return host.path(`/proc/${await pidOf(host, container)}/ns/net`);
}

/** A program of its image, where its files and interfaces are. Not by `docker exec`, which costs a hundred pings. */
async function inContainer(
  host: LabHost,
  container: string,
  ...command: readonly string[]
): Promise<string> {
  const enter = [`--target=${await pidOf(host, container)}`, "--mount", "--net"];
  return host.exec("nsenter", ...enter, "--", ...command);
}

/** Answers received of three echo requests. */
export async function pings(host: LabHost, container: string, address: string): Promise<number> {
  const ping = ["/bin/ping", "-c", "3", "-i", "0.2", "-W", "1", address];
  const text = await inContainer(host, container, ...ping).catch(
    (error: { stdout?: string }) => error.stdout ?? "",
  );
  return Number(/(\d+) packets received/.exec(text)?.[1] ?? 0);
}

/**
 * The container is answered by that one, three times of three: what was attached or connected a moment ago the other
 * host may hear of a moment later.
 */
export async function reaches(host: LabHost, container: string, address: string): Promise<void> {
  await eventually(20_000, `${address} from ${container} on ${host.name}`, async () => {
    const answers = await pings(host, container, address);
    if (answers === 3) return;
    const has = await inContainer(host, container, "/bin/ip", "-o", "address").catch(String);
    throw new Error(`${answers} of 3 echo requests were answered; the container has\n${has}`);
  });
}

/** Which of them answer the container, one echo request each. */
export async function answering(
  host: LabHost,
  container: string,
  addresses: readonly string[],
): Promise<string[]> {
  const script = 'for a in "$@"; do if ping -c 1 -W 2 "$a" >&2; then echo "$a"; fi; done';
  const text = await inContainer(host, container, "/bin/sh", "-c", script, "sh", ...addresses);
  return text.split("\n").filter(Boolean);
}

/** Once that host has heard that no container of any host refers to the network any more. */
export async function endNetwork(host: LabHost, network: string): Promise<void> {
  await eventually(30_000, `the end of ${network}`, () => host.overlay("network", "rm", network));
}

/** What a command that must fail says. */
export async function refusal(run: Promise<string>): Promise<string> {
  return run.then(
    (text) => `succeeded: ${text}`,
    (error: { stderr?: string; stdout?: string }) => `${error.stderr ?? ""}${error.stdout ?? ""}`,
  );
}
