import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { controllerLock } from "../../controller/lock-file.ts";
import { OverlayError } from "../../shared/errors.ts";
import { Ip } from "../../shared/ip.ts";
import { permissionDenied } from "../../shared/node/permission.ts";
import { callUnix, linesUnix, NotServed, textUnix } from "../../shared/node/unix-http.ts";
import { type AgentFiles, agentFiles } from "../membership/membership-files.ts";
import type { OutputOptions } from "./output.ts";

/** Where this host's overlay-ts keeps and serves things; the same for every command. */
export interface Context extends OutputOptions {
  readonly dataDirectory: string;
  readonly runDirectory: string;
  readonly patienceMs?: number | undefined;
}

const METRICS = "/v1/metrics";

/** How long a command waits, on this machine: as long as its owner says, where that is longer. */
export function patient({ patienceMs = 0 }: Context, ms: number): number {
  return Math.max(patienceMs, ms);
}

export function filesOf({ dataDirectory }: Context): AgentFiles {
  return agentFiles(dataDirectory);
}

/** @throws as callUnix; TIMEOUT also says when an agent runs whose socket is gone. */
export async function callAgent<T>(
  context: Context,
  method: "GET" | "POST" | "DELETE",
  url: string,
  body?: unknown,
  timeoutMs?: number,
): Promise<T> {
  const socket = agentSocket(context);
  try {
    return await callUnix<T>(socket, method, url, body, timeoutMs);
  } catch (error) {
    throw await whyUnheard(error, filesOf(context).lock, socket);
  }
}

/** Metrics, as text. @throws as callAgent */
export async function agentMetrics(context: Context): Promise<string> {
  const socket = agentSocket(context);
  try {
    return await textUnix(socket, METRICS);
  } catch (error) {
    throw await whyUnheard(error, filesOf(context).lock, socket);
  }
}

/** The same of the controller. @throws as callController */
export async function metricsOfController(context: Context): Promise<string> {
  const socket = controllerSocket(context);
  try {
    return await textUnix(socket, METRICS);
  } catch (error) {
    throw await whyUnheard(error, controllerLock(context.dataDirectory), socket);
  }
}

/** A service that runs and cannot be asked is told apart from one that does not run, as far as can be told. */
async function whyUnheard(error: unknown, lock: string, socket: string): Promise<unknown> {
  if (!(error instanceof NotServed)) return error;
  if (!existsSync(lock) || process.geteuid?.() !== 0) return error;
  const { ProcessLock } = await import("../../shared/node/process-lock.ts");
  const heldBy = ProcessLock.holder(lock);
  return heldBy === undefined ? error : unheard(heldBy, socket);
}

/** @param heldBy as its lock says */
export function unheard(heldBy: string, socket: string): OverlayError {
  return new OverlayError({
    code: "TIMEOUT",
    message: `${heldBy}, runs on this host, and nobody answers on ${socket}: its socket is gone`,
    next: `\`systemctl restart overlay-ts-${basename(socket, ".sock")}\`, and run the command again`,
  });
}

export function agentSocket({ runDirectory }: Context): string {
  return join(runDirectory, "agent.sock");
}

/** The lines of an answer in parts, as they come. @throws as callAgent */
export async function* followAgent<T>(context: Context, url: string): AsyncGenerator<T> {
  try {
    yield* linesUnix<T>(agentSocket(context), url);
  } catch (error) {
    throw await whyUnheard(error, filesOf(context).lock, agentSocket(context));
  }
}

/** @throws as callUnix; TIMEOUT also says when a controller runs whose socket is gone. */
export async function callController<T>(
  context: Context,
  method: "GET" | "POST" | "DELETE",
  url: string,
  body?: unknown,
): Promise<T> {
  const socket = controllerSocket(context);
  try {
    return await callUnix<T>(socket, method, url, body);
  } catch (error) {
    throw await whyUnheard(error, controllerLock(context.dataDirectory), socket);
  }
}

function controllerSocket({ runDirectory }: Context): string {
  return join(runDirectory, "controller.sock");
}

/** @throws NOT_ROOT: links, namespaces and the sockets need it. */
export function requireRoot(): void {
  if (process.geteuid?.() !== 0)
    throw permissionDenied("this command reads and changes what is open to root alone");
}

/** @throws INVALID */
export function parseIp(text: string): Ip {
  const parsed = Ip.safeParse(text);
  if (parsed.success) return parsed.data;
  throw new OverlayError({
    code: "INVALID",
    message: `not an IP address: ${text}`,
    next: "write one such as 198.51.100.1, without a prefix",
  });
}

/** `90s`, `15m`, `24h`, `7d` in milliseconds. @throws INVALID */
export function parseDuration(text: string): number {
  const match = /^(\d+)(s|m|h|d)$/.exec(text);
  const unit = { s: 1, m: 60, h: 3600, d: 86400 }[match?.[2] ?? ""];
  if (match?.[1] === undefined || unit === undefined)
    throw new OverlayError({
      code: "INVALID",
      message: `not a duration: ${text}`,
      next: "write 90s, 15m, 24h or 7d",
    });
  return Number(match[1]) * unit * 1000;
}

/** A whole number above zero. @throws INVALID */
export function parseCount(text: string): number {
  if (/^[1-9]\d{0,14}$/.test(text)) return Number(text);
  throw new OverlayError({
    code: "INVALID",
    message: `not a number above zero: ${text}`,
    next: "write it in digits",
  });
}
