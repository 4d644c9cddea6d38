import { setTimeout as delay } from "node:timers/promises";
import { OverlayError } from "../../shared/errors.ts";
import type { DockerNetworkId } from "../../shared/ids.ts";
import type { Log } from "../../shared/ports.ts";
import type { Connection, DockerEngine, EngineNetwork, NewEngineNetwork } from "./engine/port.ts";

/** Who starts on it meanwhile is taken over with the next one: two seconds of them. */
const ATTEMPTS = 20;
const AGAIN_MS = 100;
/** Compose starts what it created within this time, unless one container waits for another. */
const START_MS = 15_000;
const LOOK_MS = 50;
/** Who made a network is about to use it: while somebody comes or goes it is not replaced. */
const QUIET_MS = 1000;

export interface GiveWayModules {
  readonly engine: Pick<
    DockerEngine,
    "connections" | "connect" | "disconnect" | "removeNetwork" | "createNetwork"
  >;
  readonly log: Log;
}

/**
 * Replaces a network that was made here while another host made one of its name, which is the
 * cluster's. Containers that were quicker than we go over, with what the user asked for their
 * connection: `docker-compose up` of one project on several hosts does all of this within a second.
 * Between the one network and the other no container can start, so what was created may start first.
 * @throws when the network cannot go; its containers are then on it as before.
 */
export async function giveWay(
  network: EngineNetwork,
  replacement: NewEngineNetwork,
  { engine, log }: GiveWayModules,
  quietMs = QUIET_MS,
): Promise<void> {
  const moving: Connection[] = [];
  await quiet(network, engine, quietMs);
  let made: DockerNetworkId | undefined;
  try {
    await empty(network, moving, engine);
    made = await engine.createNetwork(replacement).catch((error: unknown) => {
      // Engines before 25 let two networks have one name: the other one is there already.
      if (!(error instanceof OverlayError) || error.code !== "CONFLICT") throw error;
      return undefined;
    });
  } finally {
    // By name when it is not known: whichever network of it the engine has now.
    for (const connection of moving)
      await engine.connect(made ?? network.name, connection).catch((error: unknown) => {
        const { container } = connection;
        log.warn(
          { container, err: error },
          "could not connect a container with its network again; it goes on without",
        );
      });
  }
}

/** Nobody came or went for so long, and what was created has started; at the latest after START_MS. */
async function quiet(
  network: EngineNetwork,
  engine: GiveWayModules["engine"],
  quietMs: number,
): Promise<void> {
  const begunMs = performance.now();
  let sinceMs = begunMs;
  for (let seen: string | undefined; ;) {
    const held = await engine.connections(network);
    const nowMs = performance.now();
    const now = JSON.stringify(held.map(({ container, started }) => [container, started]));
    if (now !== seen) sinceMs = nowMs;
    seen = now;
    const isQuiet = held.every(({ started }) => started) && nowMs - sinceMs >= quietMs;
    if (isQuiet || nowMs - begunMs >= START_MS) return;
    await delay(LOOK_MS);
  }
}

/**
 * Takes the network away; who starts on it between two steps makes another round. It stays one of ours until Docker
 * says that it went: a container that is just being connected is on it, and not refused.
 */
async function empty(
  network: EngineNetwork,
  moving: Connection[],
  engine: GiveWayModules["engine"],
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    for (const connection of await engine.connections(network)) {
      if (!connection.started) continue;
      await engine.disconnect(network.id, connection);
      moving.push(connection);
    }
    try {
      await engine.removeNetwork(network.id);
      return;
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      await delay(AGAIN_MS);
    }
  }
}
