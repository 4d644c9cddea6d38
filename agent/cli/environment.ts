import { isAbsolute } from "node:path";
import { OverlayError } from "../../shared/errors.ts";
import { Cidr, familyOf, Ip, prefixLength } from "../../shared/ip.ts";
import type { MetricsAddress } from "../api/metrics-listener.ts";
import { DEFAULT_TRANSIT_POOL } from "../core/data-plane/transit.ts";
import { oneLine } from "../../shared/text.ts";

const PREFIX = "OVERLAY_TS_";
const OFF = "off";
const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"];

/** Every variable of ours, and what it must be. Another of our prefix is a misspelt one. */
const VARIABLES: Readonly<Record<string, (value: string) => string | undefined>> = {
  OVERLAY_TS_DATA_DIR: absolute,
  OVERLAY_TS_RUN_DIR: absolute,
  /** Of compiled code; read by deploy/overlay-ts. */
  OVERLAY_TS_CACHE_DIR: absolute,
  /** Of `npm run lab`. */
  OVERLAY_TS_LAB_DIR: absolute,
  OVERLAY_TS_LAB_CACHE: absolute,
  OVERLAY_TS_LOG_LEVEL: (value) =>
    LOG_LEVELS.includes(value) ? undefined : `is not one of ${LOG_LEVELS.join(", ")}`,
  /** How long containers' questions wait for an agent (inherited.ts), and Docker's calls for their end. */
  OVERLAY_TS_PATIENCE_MS: (value) =>
    /^\d{1,6}$/.test(value) ? undefined : "is not a number of milliseconds",
  /** Addresses of networks' ways out on this host. */
  OVERLAY_TS_TRANSIT_POOL: (value) =>
    value === OFF || isPool(value)
      ? undefined
      : `is neither an IPv4 subnet of at least two addresses nor \`${OFF}\``,
  /** Where the agent's metrics can be asked for over TCP. */
  OVERLAY_TS_METRICS: (value) =>
    metricsAddress(value) === undefined
      ? "is not one address and a port, as 127.0.0.1:9948 or [::1]:9948"
      : undefined,
  /** Of the Debian package's removal, in apt's environment. */
  OVERLAY_TS_CUT_OFF: () => undefined,
  OVERLAY_TS_TOKEN: () => undefined,
  /** Set: failures inside of the program show where. */
  OVERLAY_TS_DEBUG: () => undefined,
};

export interface Environment {
  readonly dataDirectory: string;
  readonly runDirectory: string;
  readonly logLevel: string;
  readonly token: string | undefined;
  /** For a machine on which everything takes longer; undefined: not set. */
  readonly patienceMs: number | undefined;
  /** Undefined: containers leave by docker_gwbridge only. */
  readonly transitPool: Cidr | undefined;
  /** Undefined: on the local socket only. */
  readonly metrics: MetricsAddress | undefined;
  readonly debug: boolean;
}

/** @throws INVALID for a variable of ours that is not known, or cannot be what it says. */
export function readEnvironment(variables: NodeJS.ProcessEnv): Environment {
  for (const [name, value] of Object.entries(variables)) {
    if (!name.startsWith(PREFIX) || value === undefined) continue;
    const check = Object.hasOwn(VARIABLES, name) ? VARIABLES[name] : undefined;
    if (check === undefined)
      throw new OverlayError({
        code: "INVALID",
        message: `overlay-ts knows no environment variable ${oneLine(name, 64)}`,
        next: `known are ${Object.keys(VARIABLES).join(", ")}`,
      });
    const fault = check(value);
    if (fault !== undefined)
      throw new OverlayError({
        code: "INVALID",
        // Whatever the value is: it could be a token in the wrong place.
        message: `the environment variable ${name} ${fault}`,
        next: "set it right, or not at all",
      });
  }
  const patience = variables["OVERLAY_TS_PATIENCE_MS"];
  return {
    dataDirectory: variables["OVERLAY_TS_DATA_DIR"] ?? "/var/lib/overlay-ts",
    runDirectory: variables["OVERLAY_TS_RUN_DIR"] ?? "/run/overlay-ts",
    logLevel: variables["OVERLAY_TS_LOG_LEVEL"] ?? "info",
    token: variables["OVERLAY_TS_TOKEN"],
    patienceMs: patience === undefined ? undefined : Number(patience),
    transitPool: transitPoolOf(variables["OVERLAY_TS_TRANSIT_POOL"]),
    metrics: metricsAddress(variables["OVERLAY_TS_METRICS"] ?? ""),
    debug: variables["OVERLAY_TS_DEBUG"] !== undefined,
  };
}

function transitPoolOf(value: string | undefined): Cidr | undefined {
  if (value === OFF) return undefined;
  return value === undefined ? DEFAULT_TRANSIT_POOL : Cidr.parse(value);
}

/** One address, so that it is said to whom it is open: not all that the host has. */
function metricsAddress(value: string): MetricsAddress | undefined {
  const [, v6, v4, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(value) ?? [];
  const ip = Ip.safeParse(v6 ?? v4);
  const number = Number(port);
  if (!ip.success || (familyOf(ip.data) === 6) !== (v6 !== undefined)) return undefined;
  if (ip.data === "0.0.0.0" || ip.data === "::" || number < 1 || number > 65535) return undefined;
  return { ip: ip.data, port: number };
}

function isPool(value: string): boolean {
  const pool = Cidr.safeParse(value);
  return pool.success && familyOf(pool.data) === 4 && prefixLength(pool.data) <= 31;
}

function absolute(value: string): string | undefined {
  return isAbsolute(value) ? undefined : "is not an absolute path";
}
