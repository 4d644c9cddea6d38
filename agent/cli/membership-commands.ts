import { readFileSync } from "node:fs";
import { controllerFiles, hasCluster } from "../../controller/files.ts";
import { createCluster } from "../../controller/init.ts";
import { NodeRecord, SecurityClass, type Settings } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import { type Family, familyOf, type Ip } from "../../shared/ip.ts";
import { whyUnreadable } from "../../shared/node/files.ts";
import { oneLine } from "../../shared/text.ts";
import { parseToken } from "../../shared/token.ts";
import { alreadyMember, joinCluster, type OwnAddresses } from "../membership/join.ts";
import { ensureIdentity, readMembership } from "../membership/membership-files.ts";
import { chooseAddress, defaultName } from "../membership/host-facts.ts";
import type { Problem } from "../core/events/view.ts";
import type { NotRunning, Status } from "../api/status.ts";
import {
  callAgent,
  callController,
  type Context,
  filesOf,
  parseIp,
  patient,
  requireRoot,
} from "./context.ts";
import { readEnvironment } from "./environment.ts";
import { reachOthers, REACH_TIMEOUT_MS } from "./other-hosts.ts";
import { print, progress } from "./output.ts";
import { waitFor } from "./wait-for.ts";

/** Until a service answers at all. */
const SERVICE_TIMEOUT_MS = 15_000;
/** Until the agent has loaded its mesh and takes part: a small machine needs its time. */
const START_TIMEOUT_MS = 120_000;

export interface InitOptions {
  readonly advertiseAddr?: string;
  readonly encryption?: string;
  readonly name?: string;
}

/** A new cluster with its controller and first host here; as `docker swarm init`. */
export async function init(context: Context, options: InitOptions): Promise<void> {
  requireRoot();
  const name = nameOption(options.name);
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
    () => patient(context, SERVICE_TIMEOUT_MS),
  );
  const { membership } = await joinCluster(files, {
    token: own,
    controller: { address },
    name,
    advertise: address,
    patienceMs: context.patienceMs,
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
  readonly replace?: boolean;
}

/** As `docker swarm join`: fails loudly when the others cannot be reached, or cannot reach us. */
export async function join(
  context: Context,
  controllerAddress: string,
  options: JoinOptions,
): Promise<void> {
  requireRoot();
  const name = nameOption(options.name);
  const [host, port] = splitPort(controllerAddress);
  const address = parseIp(host);
  const token = readToken(options);
  progress(`asking the controller at ${address}`);
  const { membership, machineSharedWith } = await joinCluster(filesOf(context), {
    token,
    controller: { address, port },
    name,
    replace: options.replace,
    patienceMs: context.patienceMs,
    slow: ({ message }) => progress(`${message}; asked again`),
    ...ownAddresses(options, familyOf(address)),
  });
  progress("admitted; waiting for the agent");
  if (machineSharedWith !== undefined)
    progress(
      `host ${machineSharedWith} says the same machine id, as copies of one image can: give each its own (machine-id(5)), or remove the other (\`overlay-ts node rm\`) if it was this machine`,
    );
  const status = await waitForMember(context);
  progress("agent runs; asking the other hosts");
  await reachOthers(context);
  for (const { name, id, needsUnderlayBytes } of status.tooLarge)
    progress(
      `network ${name ?? id} needs an underlay of ${needsUnderlayBytes} bytes, which this host's has not: its containers cannot run here`,
    );
  const docker = await dockerProblem(context);
  print(context, { cluster: membership.cluster, node: status.node, name: status.name }, () =>
    [
      `This host is ${status.name} in cluster ${membership.cluster}.`,
      ...(docker === undefined
        ? ["Its networks appear in `docker network ls`."]
        : [
            `Its networks do not appear in \`docker network ls\` yet: ${docker.message}`,
            ...(docker.next === undefined ? [] : [`  → ${docker.next}`]),
          ]),
    ].join("\n"),
  );
}

/** With --listen-addr the advertised address is the NAT's, and none of this host. @throws INVALID */
export function ownAddresses(
  { advertiseAddr, listenAddr }: Pick<JoinOptions, "advertiseAddr" | "listenAddr">,
  family: Family,
): OwnAddresses {
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

/** Why the engine does not show the networks, once it was first compared; undefined: it does. */
async function dockerProblem(context: Context): Promise<Problem | undefined> {
  const looked = await waitFor(
    async () => {
      const { docker, problems = [] } = await joinedStatus(context);
      const problem = problems.find(({ what }) => what === "docker");
      if (docker === undefined || docker.reachable || problem !== undefined) return { problem };
      throw new OverlayError({
        code: "TIMEOUT",
        message: "Docker was not asked yet",
        next: "see `overlay-ts status`",
      });
    },
    () => patient(context, REACH_TIMEOUT_MS),
  ).catch(() => undefined);
  return looked?.problem;
}

/** One that is starting has its time; one that is not there, or says what is wrong, a shorter one. */
function waitForMember(context: Context): Promise<Status> {
  return waitFor(
    () => joinedStatus(context),
    (error) =>
      patient(
        context,
        error instanceof OverlayError && error.code === "TIMEOUT"
          ? START_TIMEOUT_MS
          : SERVICE_TIMEOUT_MS,
      ),
  );
}

/** Not from the command line where it can be helped: that shows in `ps`. @throws INVALID */
function readToken({ token, tokenFile }: JoinOptions): string {
  if (token !== undefined && tokenFile !== undefined)
    throw new OverlayError({
      code: "INVALID",
      message: "--token and --token-file are both given",
      next: "give one of them; a token in a file does not show in `ps`",
    });
  const [found, from] =
    tokenFile === undefined
      ? [
          token ?? readEnvironment(process.env).token,
          token === undefined ? "OVERLAY_TS_TOKEN" : "--token",
        ]
      : [readTokenFile(tokenFile), `what --token-file ${tokenFile} holds`];
  if (found === undefined)
    throw new OverlayError({
      code: "INVALID",
      message: "a token is needed to join",
      next: "give --token, --token-file or OVERLAY_TS_TOKEN; `overlay-ts token create` makes one",
    });
  // Before anybody is asked.
  parseToken(found, from);
  return found;
}

/** @throws INVALID */
function readTokenFile(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (cause) {
    throw new OverlayError(
      {
        code: "INVALID",
        message: `--token-file ${path} cannot be read: ${whyUnreadable(cause)}`,
        next: "give a file that holds what `overlay-ts token create` printed",
      },
      { cause },
    );
  }
}

/** @throws INVALID */
function nameOption(name: string | undefined): string {
  const parsed = NodeRecord.shape.name.safeParse(name ?? defaultName());
  if (parsed.success) return parsed.data;
  const shape = "1 to 64 letters and digits, after the first also _ . and -";
  throw new OverlayError({
    code: "INVALID",
    message:
      name === undefined
        ? `this machine's name ${oneLine(defaultName(), 64)} cannot be a host's in the cluster`
        : `--name ${oneLine(name, 64)} cannot be a host's name`,
    next: name === undefined ? `give another with --name: ${shape}` : `give ${shape}`,
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
