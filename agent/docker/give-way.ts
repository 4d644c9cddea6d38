import { setTimeout as delay } from "node:timers/promises";
import { asFailure, OverlayError } from "../../shared/errors.ts";
import type { DockerNetworkId } from "../../shared/ids.ts";
import type { Log } from "../../shared/ports.ts";
import type { Connection, DockerEngine, EngineNetwork, NewEngineNetwork } from "./engine-port.ts";

const ATTEMPTS = 5;
/** Compose starts what it created within this time, unless one container waits for another. */
const START_MS = 15_000;
const LOOK_MS = 50;

export interface GiveWayModules {
  readonly engine: Pick<
    DockerEngine,
    "connections" | "connect" | "disconnect" | "removeNetwork" | "createNetwork"
  >;
  /** The engine's network is no longer one of ours: that it goes ends nothing. */
  readonly unbind: (network: DockerNetworkId) => void;
  readonly bindAgain: (network: DockerNetworkId) => void;
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
  modules: GiveWayModules,
): Promise<void> {
  const { engine, log } = modules;
  const moving: Connection[] = [];
  const begunMs = performance.now();
  while (
    performance.now() - begunMs < START_MS &&
    (await engine.connections(network)).some(({ started }) => !started)
  )
    await delay(LOOK_MS);
  try {
    await empty(network, moving, modules);
    await engine.createNetwork(replacement).catch((error: unknown) => {
      // Engines before 25 let two networks have one name: the other one is there already.
      if (!(error instanceof OverlayError) || error.code !== "CONFLICT") throw error;
    });
  } finally {
    // By name: whichever network of it the engine has now.
    for (const connection of moving)
      await engine.connect(network.name, connection).catch((error: unknown) => {
        const { container } = connection;
        log.warn({ container, ...asFailure(error) }, "a container lost its network");
      });
  }
}

/** Takes the network away; who starts on it between two steps makes another round. */
async function empty(
  network: EngineNetwork,
  moving: Connection[],
  { engine, unbind, bindAgain }: GiveWayModules,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    for (const connection of await engine.connections(network)) {
      if (!connection.started) continue;
      await engine.disconnect(network.id, connection);
      moving.push(connection);
    }
    unbind(network.id);
    try {
      await engine.removeNetwork(network.id);
      return;
    } catch (error) {
      bindAgain(network.id);
      if (attempt === ATTEMPTS) throw error;
    }
  }
}
