import { existsSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { controllerFiles, hasCluster } from "../../controller/files.ts";
import { createCluster } from "../../controller/init.ts";
import { DEFAULT_PORTS, SecurityClass, type Settings } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import { type Family, familyOf, type Ip } from "../../shared/ip.ts";
import { oneLine } from "../../shared/text.ts";
import { alreadyMember, joinCluster } from "../joining.ts";
import { ensureIdentity, forgetMembership, readMembership } from "../membership.ts";
import { chooseAddress, defaultName } from "../node-facts.ts";
import type { ProofStatus } from "../proving.ts";
import type { NotRunning, Status } from "../status.ts";
import {
  callAgent,
  callController,
  type Context,
  filesOf,
  parseIp,
  requireRoot,
} from "./context.ts";
import { readEnvironment } from "./environment.ts";
import { print, progress } from "./output.ts";

/** Until a service answers at all. */
const SERVICE_TIMEOUT_MS = 15_000;
/** Until the agent has loaded its mesh and takes part: a small machine needs its time. */
const START_TIMEOUT_MS = 120_000;
/** Longer than the mesh's longest backoff and two rounds of the data-path proof. */
const REACH_TIMEOUT_MS = 20_000;

export interface InitOptions {
  readonly advertiseAddr?: string;
  readonly encryption?: string;
  readonly name?: string;
}

/** A new cluster with its controller and first host here; as `docker swarm init`. */
export async function init(context: Context, options: InitOptions): Promise<void> {
  requireRoot();
  const files = filesOf(context);
  const held = readMembership(files);
  if (held !== undefined) throw alreadyMember(held.cluster);
  const address = chooseAddress(ipOption(options.advertiseAddr));
  const settings = encryptionSettings(options.encryption);
  const controller = controllerFiles(context.dataDirectory);
  const { node } = ensureIdentity(files);
  // A crash between leaves a cluster without its first host: the same command goes on from there.
  if (!hasCluster(controller))
    await createCluster(controller, { controllerNode: node, address, settings });
  progress("cluster made; waiting for the controller");
  const own = await waitFor(
    () => createToken(context, 1),
    () => SERVICE_TIMEOUT_MS,
  );
  const name = options.name ?? defaultName();
  const membership = await joinCluster(files, {
    token: own,
    controller: { address },
    name,
    advertise: address,
  });
  await waitForMember(context);
  const token = await createToken(context, undefined);
  const command = `overlay-ts join --token ${token} ${address}`;
  print(context, { cluster: membership.cluster, node, address, token }, () =>
    [
      `Cluster ${membership.cluster} is there; this host is ${name}.`,
      "",
      "On each other host:",
      "",
      `    ${command}`,
      "",
      "The token holds for 24 hours and 10 hosts. A command line shows in `ps`: where others can",
      "look, put it into a file (--token-file) or the environment (OVERLAY_TS_TOKEN).",
      "",
      `Move ${controller.rootKey} to a safe place: nothing here needs it any more. With it another`,
      "host becomes the controller when this one is lost (`overlay-ts controller promote`).",
    ].join("\n"),
  );
}

/** For networks that say nothing, and what `-o encrypted` means. @throws INVALID */
function encryptionSettings(kind: string | undefined): Partial<Settings> {
  if (kind === undefined) return {};
  const parsed = SecurityClass.safeParse(kind);
  if (!parsed.success)
    throw new OverlayError({
      code: "INVALID",
      message: `--encryption ${oneLine(kind, 64)} is not one of ${SecurityClass.options.join(", ")}`,
      next: "give one of these, or leave it away: networks that say nothing are then in clear",
    });
  const { data } = parsed;
  return {
    defaultEncryption: data,
    ...(data === "none" ? {} : { encryptedMeans: data }),
  };
}

export interface JoinOptions {
  readonly token?: string;
  readonly tokenFile?: string;
  readonly advertiseAddr?: string;
  readonly listenAddr?: string;
  readonly name?: string;
}

/** As `docker swarm join`: fails loudly when the others cannot be reached, or cannot reach us. */
export async function join(
  context: Context,
  controllerAddress: string,
  options: JoinOptions,
): Promise<void> {
  requireRoot();
  const [host, port] = splitPort(controllerAddress);
  const address = parseIp(host);
  const token = readToken(options);
  progress(`asking the controller at ${address}`);
  const membership = await joinCluster(filesOf(context), {
    token,
    controller: { address, port },
    name: options.name ?? defaultName(),
    ...ownAddresses(options, familyOf(address)),
  });
  progress("admitted; waiting for the agent");
  const status = await waitForMember(context);
  progress("agent runs; asking the other hosts");
  await reachOthers(context);
  for (const { name, id, needsUnderlayBytes } of status.tooLarge)
    progress(
      `network ${name ?? id} needs an underlay of ${needsUnderlayBytes} bytes, which this host's has not: its containers cannot run here`,
    );
  print(context, { cluster: membership.cluster, node: status.node, name: status.name }, () =>
    [
      `This host is ${status.name} in cluster ${membership.cluster}.`,
      "Its networks appear in `docker network ls`.",
    ].join("\n"),
  );
}

/** With --listen-addr the advertised address is the NAT's, and none of this host. @throws INVALID */
function ownAddresses(
  { advertiseAddr, listenAddr }: JoinOptions,
  family: Family,
): { advertise: Ip; listen?: Ip } {
  const advertised = ipOption(advertiseAddr);
  if (listenAddr === undefined) return { advertise: chooseAddress(advertised, family) };
  if (advertised === undefined)
    throw new OverlayError({
      code: "INVALID",
      message: "--listen-addr is for a host behind NAT, whose address outside is not known",
      next: "give that one with --advertise-addr, or leave --listen-addr away",
    });
  return { advertise: advertised, listen: chooseAddress(parseIp(listenAddr), family) };
}

/** The host forgets cluster and key; its networks go from kernel and engine. */
export async function leave(context: Context, options: { force?: boolean }): Promise<void> {
  requireRoot();
  const files = filesOf(context);
  if (!existsSync(files.membership))
    throw new OverlayError({ code: "NOT_JOINED", message: "this host is in no cluster" });
  if (options.force !== true) await refuseWhileUsed(context);
  // The agent takes its things out of kernel and engine; without it only the files go.
  await callAgent(context, "POST", "/v1/leave").catch((error: unknown) => {
    if (!(error instanceof OverlayError) || error.code !== "UNREACHABLE") throw error;
    forgetMembership(files);
  });
  print(
    context,
    { left: true },
    () =>
      "This host has left. Remove it from the table with `overlay-ts node rm` on the controller's host.",
  );
}

/** Kernel and engine as if we had never been there, until the agent starts again. */
export async function withdraw(context: Context, options: { force?: boolean }): Promise<void> {
  requireRoot();
  if (options.force !== true) await refuseWhileUsed(context);
  await callAgent(context, "POST", "/v1/withdraw");
  print(context, { withdrawn: true }, () => "This host's networks are gone; it is still a member.");
}

async function refuseWhileUsed(context: Context): Promise<void> {
  const status = await joinedStatus(context).catch(() => undefined);
  const busy = status?.networks.filter(({ endpoints }) => endpoints > 0) ?? [];
  if (busy.length > 0)
    throw new OverlayError({
      code: "CONFLICT",
      message: `containers here use ${busy.map(({ name, id }) => name ?? id).join(", ")}`,
      next: "stop them, or give --force to cut them off",
    });
}

async function createToken(context: Context, uses: number | undefined): Promise<string> {
  const body = uses === undefined ? {} : { uses, ttlMs: 60_000 };
  return (await callController<{ token: string }>(context, "POST", "/v1/tokens", body)).token;
}

async function joinedStatus(context: Context): Promise<Status> {
  const status = await callAgent<Status | NotRunning>(context, "GET", "/v1/status");
  if (status.joined) return status;
  if (status.problem !== undefined) throw new OverlayError(status.problem);
  throw new OverlayError({
    code: "TIMEOUT",
    message: "the agent runs, but has not taken up the membership",
    next: "see its log: `journalctl -u overlay-ts-agent`",
  });
}

/** Mesh and data path to at least one other host, or the reason in words. */
async function reachOthers(context: Context): Promise<void> {
  await waitFor(
    async () => {
      const status = await joinedStatus(context);
      if (status.peers.length === 0) return;
      if (!status.peers.some(({ connected }) => connected))
        throw new OverlayError({
          code: "UNREACHABLE",
          message: `the mesh port ${DEFAULT_PORTS.gossip}/tcp of ${names(status.peers)} cannot be reached`,
          next: "open it between the hosts; the host stays joined and goes on trying",
        });
      const proofs = await callAgent<ProofStatus[]>(context, "POST", "/v1/probe");
      // Nobody is asked through NAT.
      if (proofs.length > 0 && !proofs.some(({ roundTripMs }) => roundTripMs !== undefined))
        throw new OverlayError({
          code: "UNREACHABLE",
          message: `the data path does not work: no answer over VXLAN (${DEFAULT_PORTS.vxlanPlain}/udp, full size) from ${names(proofs)}`,
          next: "open the port between the hosts, and check that their MTU is what the interfaces say",
        });
    },
    () => REACH_TIMEOUT_MS,
  );
}

function names(peers: readonly { name: string }[]): string {
  return peers
    .map(({ name }) => name)
    .slice(0, 5)
    .join(", ");
}

/** Again until it succeeds; a failure is thrown when its time, counted from the start, is over. */
async function waitFor<T>(
  attempt: () => Promise<T>,
  timeoutMs: (error: unknown) => number,
): Promise<T> {
  const begunMs = Date.now();
  for (;;)
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() - begunMs > timeoutMs(error)) throw error;
      await delay(100);
    }
}

/** One that is starting has its time; one that is not there, or says what is wrong, a shorter one. */
function waitForMember(context: Context): Promise<Status> {
  return waitFor(
    () => joinedStatus(context),
    (error) =>
      error instanceof OverlayError && error.code === "TIMEOUT"
        ? START_TIMEOUT_MS
        : SERVICE_TIMEOUT_MS,
  );
}

/** Not from the command line where it can be helped: that shows in `ps`. */
function readToken({ token, tokenFile }: JoinOptions): string {
  const found =
    token ??
    (tokenFile === undefined ? undefined : readFileSync(tokenFile, "utf8").trim()) ??
    readEnvironment(process.env).token;
  if (found !== undefined) return found;
  throw new OverlayError({
    code: "INVALID",
    message: "a token is needed to join",
    next: "give --token, --token-file or OVERLAY_TS_TOKEN; `overlay-ts token create` makes one",
  });
}

function ipOption(text: string | undefined): Ip | undefined {
  return text === undefined ? undefined : parseIp(text);
}

/** `198.51.100.1`, `198.51.100.1:7952`, `[2001:db8::1]:7952`. @throws INVALID */
function splitPort(text: string): [string, number | undefined] {
  const match = /^(?:\[(.+)\]|([^:]+))(?::(\d+))?$/.exec(text);
  if (match === null) return [text, undefined];
  const port = match[3] === undefined ? undefined : Number(match[3]);
  if (port !== undefined && (port < 1 || port > 65535))
    throw new OverlayError({
      code: "INVALID",
      message: `no port has the number ${port}`,
      next: "give the controller's, or leave it away",
    });
  return [match[1] ?? match[2] ?? text, port];
}
