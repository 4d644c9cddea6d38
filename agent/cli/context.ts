import { join } from "node:path";
import { OverlayError } from "../../shared/errors.ts";
import { Ip } from "../../shared/ip.ts";
import { callUnix, linesUnix } from "../../shared/node/unix-http.ts";
import { type AgentFiles, agentFiles } from "../membership.ts";
import type { OutputOptions } from "./output.ts";

/** Where this host's overlay-ts keeps and serves things; the same for every command. */
export interface Context extends OutputOptions {
  readonly dataDirectory: string;
  readonly runDirectory: string;
}

export function filesOf({ dataDirectory }: Context): AgentFiles {
  return agentFiles(dataDirectory);
}

export function callAgent<T>(
  { runDirectory }: Context,
  method: "GET" | "POST" | "DELETE",
  url: string,
  body?: unknown,
): Promise<T> {
  return callUnix<T>(join(runDirectory, "agent.sock"), method, url, body);
}

/** The lines of an answer in parts, as they come. */
export function followAgent<T>({ runDirectory }: Context, url: string): AsyncGenerator<T> {
  return linesUnix<T>(join(runDirectory, "agent.sock"), url);
}

export function callController<T>(
  { runDirectory }: Context,
  method: "GET" | "POST" | "DELETE",
  url: string,
  body?: unknown,
): Promise<T> {
  return callUnix<T>(join(runDirectory, "controller.sock"), method, url, body);
}

/** @throws NOT_ROOT: links, namespaces and the sockets need it. */
export function requireRoot(): void {
  if (process.geteuid?.() !== 0)
    throw new OverlayError({
      code: "NOT_ROOT",
      message: "this command needs root",
      next: "run it with sudo",
    });
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
