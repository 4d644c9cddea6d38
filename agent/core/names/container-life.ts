import type {
  ContainerDetails,
  ContainerEvent,
  EngineContainer,
  Health,
} from "./engine-containers.ts";
import { HEALTHS } from "./engine-containers.ts";
import type { EndpointId } from "../../../shared/ids.ts";
import type { OutReason } from "./names.ts";

/** What `docker stop` sends to a container that asks for no other. */
export const TERM = 15;
/** Ends a container, whatever it does with other signals. */
const KILL = 9;

/** How a container is, as far as the engine's events and answers told. */
export interface ContainerLife {
  /** Undefined: not looked at yet. */
  details: ContainerDetails | undefined;
  /** `starting`: its networks are connected, its process does not run yet. */
  phase: "down" | "starting" | "up";
  paused: boolean;
  /** Undefined: without a health check. */
  health: Health | undefined;
  /** It was told to stop, by the engine's clock; until its next start. */
  stoppingSinceMs: number | undefined;
}

export function newContainer(): ContainerLife {
  return {
    details: undefined,
    phase: "down",
    paused: false,
    health: undefined,
    stoppingSinceMs: undefined,
  };
}

/** A start: nothing of the run before is true of it. */
export function begin(life: ContainerLife, phase: "starting" | "up"): void {
  life.phase = phase;
  life.paused = false;
  life.stoppingSinceMs = undefined;
  life.health = life.details && firstHealth(life.details);
}

/** @returns whether the container is to be looked at */
export function applyEvent(life: ContainerLife, event: ContainerEvent): boolean {
  switch (event.action) {
    case "start":
      begin(life, "up");
      // No event told what was asked of it while it was down.
      return true;
    case "rename":
      return true;
    case "pause":
      life.paused = true;
      // Nobody pauses what is to end: whoever unpauses it means it to go on.
      life.stoppingSinceMs = undefined;
      // Its health checks end with it (moby daemon/health.go, stopHealthchecks).
      if (life.health !== undefined) life.health = "unhealthy";
      return false;
    case "unpause":
      life.paused = false;
      return true;
    case "kill":
      // Heard late, it was for a run that has ended: no event will say that this one goes on.
      if (isStop(life, event) && event.atMs >= (life.details?.startedAtMs ?? -Infinity))
        life.stoppingSinceMs = event.atMs;
      return false;
    case "die":
      // Engines since 25 say it late: a container that is started again may be ahead of it.
      if (life.phase === "up") life.phase = "down";
      return false;
    default: {
      const said = /^health_status: (\w+)$/.exec(event.action)?.[1];
      const health = HEALTHS.find((one) => one === said);
      if (health !== undefined && life.phase === "up") life.health = health;
      return false;
    }
  }
}

/** `wasStopping`: this host has said so of an endpoint of the container. */
export function applyDetails(
  life: ContainerLife,
  details: ContainerDetails,
  wasStopping: (endpoint: EndpointId) => boolean,
): void {
  const { startedAtMs, state, health, connections } = details;
  // An endpoint's id is of one run: what was said of it was of this one.
  if (
    life.details === undefined &&
    connections.some(({ endpoint }) => endpoint !== undefined && wasStopping(endpoint))
  )
    life.stoppingSinceMs ??= startedAtMs;
  life.details = details;
  life.phase = state === "down" ? "down" : "up";
  life.paused = state === "paused";
  life.health = state === "down" ? undefined : health;
  // It was told in a run before.
  if (life.stoppingSinceMs !== undefined && life.stoppingSinceMs < startedAtMs)
    life.stoppingSinceMs = undefined;
}

/** Signals and pauses that the engine remembers, the oldest first; those of runs before do not count. */
export function applyRemembered(
  life: ContainerLife,
  startedAtMs: number,
  events: readonly ContainerEvent[],
): void {
  for (const event of events) {
    if (event.atMs < startedAtMs) continue;
    if (event.action === "pause") life.stoppingSinceMs = undefined;
    else if (isStop(life, event)) life.stoppingSinceMs = event.atMs;
  }
}

/** Whether the engine's list shows the container otherwise. `endpoints`: those on networks of ours. */
export function differs(
  life: ContainerLife | undefined,
  listed: EngineContainer,
  endpoints: readonly EndpointId[],
): boolean {
  const up = listed.state !== "down";
  if (life?.details === undefined) return up;
  if (!up) return life.phase === "up";
  const { name, connections } = life.details;
  return (
    life.phase !== "up" ||
    listed.name !== name ||
    (listed.state === "paused") !== life.paused ||
    (!life.paused && listed.health !== life.health) ||
    listed.networks.length !== connections.length ||
    listed.networks.some(({ id }) => !connections.some((held) => held.id === id)) ||
    endpoints.some((id) => !connections.some(({ endpoint }) => endpoint === id))
  );
}

/** Why its names get no answer. */
export function outReason({
  paused,
  health,
  stoppingSinceMs,
}: ContainerLife): OutReason | undefined {
  if (stoppingSinceMs !== undefined) return "stopping";
  if (paused) return "paused";
  return health === "healthy" ? undefined : health;
}

/** From the start on, until the first check says otherwise. */
function firstHealth({ checked }: ContainerDetails): Health | undefined {
  return checked ? "starting" : undefined;
}

function isStop({ details }: ContainerLife, { attributes }: ContainerEvent): boolean {
  const signal = Number(attributes["signal"]);
  return signal === KILL || signal === (details?.stopSignal ?? TERM);
}
