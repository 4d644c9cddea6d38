import { setTimeout as delay } from "node:timers/promises";
import { asFailure, OverlayError } from "../../shared/errors.ts";
import type { DockerNetworkId } from "../../shared/ids.ts";
import type { CutOff } from "./cut-off.ts";
import type { DockerEngine, EngineNetwork } from "./engine/port.ts";
import { withDockerAdvice } from "./engine/advice.ts";
import { removeGwbridge } from "./engine/gwbridge.ts";
import { DRIVER } from "./views.ts";

/** A container may be starting on a view while it is taken away. */
const ROUNDS = 5;
const BETWEEN_MS = 500;

export type ViewsEngine = Pick<
  DockerEngine,
  "networks" | "attachments" | "containers" | "disconnect" | "removeNetwork"
>;

/** The changes made on this engine. */
export interface ViewsWithdrawn {
  /** `docker network connect` with these puts them back, when the host is a member again. */
  readonly cutOff: readonly CutOff[];
  /** What could not be done, as sentences with a next step. */
  readonly stays: readonly string[];
}

/**
 * This engine's views of the cluster's networks go; running containers on them are cut off, stopped ones find
 * the network of the name again, should there be one. `going`: told before each view is removed.
 */
export async function withdrawViews(
  engine: ViewsEngine,
  going: (view: DockerNetworkId) => void,
): Promise<ViewsWithdrawn> {
  const cutOff: CutOff[] = [];
  let stays: string[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    if (round > 0) await delay(BETWEEN_MS);
    stays = [];
    let views: EngineNetwork[];
    try {
      views = (await engine.networks()).filter(({ driver }) => driver === DRIVER);
    } catch (error) {
      const { message } = asFailure(error);
      return {
        cutOff,
        stays: [
          `its networks on the Docker engine, which could not be asked (${message}): when it runs, \`docker network ls --filter driver=${DRIVER}\` lists them, \`docker network rm\` removes them`,
        ],
      };
    }
    for (const view of views)
      try {
        cutOff.push(...(await cut(engine, view)));
        going(view.id);
        await engine.removeNetwork(view.id);
      } catch (error) {
        const { message } = asFailure(error);
        stays.push(
          `network ${view.name} on the Docker engine (${message}): \`docker network rm ${view.name}\` removes it`,
        );
      }
    if (stays.length === 0) break;
  }
  await removeGwbridge(engine).catch((error: unknown) =>
    stays.push(
      `docker_gwbridge on the Docker engine (${asFailure(error).message}): \`docker network rm docker_gwbridge\` removes it`,
    ),
  );
  return { cutOff, stays };
}

/** Those that run, or are just starting. */
async function cut(engine: ViewsEngine, { id, name: network }: EngineNetwork): Promise<CutOff[]> {
  const { endpoints } = await engine.attachments(id);
  const containers = endpoints.flatMap(({ container }) => container ?? []);
  if (containers.length === 0) return [];
  const names = new Map((await engine.containers()).map((held) => [held.id, held.name]));
  for (const container of containers) await engine.disconnect(id, { container });
  return containers.map((container) => {
    return { network, container, name: names.get(container) ?? container.slice(0, 12) };
  });
}

/**
 * Names of views with containers on them; where there is no engine, none.
 * @throws why it cannot be asked: views may be in use
 */
export async function viewsInUse(
  engine: Pick<DockerEngine, "networks" | "attachments">,
): Promise<string[]> {
  try {
    const views = (await engine.networks()).filter(({ driver }) => driver === DRIVER);
    const busy: string[] = [];
    for (const { id, name } of views) if (await isInUse(engine, id)) busy.push(name);
    return busy;
  } catch (cause) {
    if (hasNoSocket(cause)) return [];
    const { code, message, next } = withDockerAdvice(asFailure(cause));
    throw new OverlayError(
      {
        code,
        message: `whether containers here use the cluster's networks cannot be asked: ${message}`,
        next: `${next}; or give --force to cut off those that do`,
      },
      { cause },
    );
  }
}

/** A view that went since the list has nobody on it. */
async function isInUse(
  engine: Pick<DockerEngine, "attachments">,
  view: DockerNetworkId,
): Promise<boolean> {
  try {
    return (await engine.attachments(view)).endpoints.length > 0;
  } catch (error) {
    if (error instanceof OverlayError && error.code === "NOT_FOUND") return false;
    throw error;
  }
}

/** No engine runs there. One that is stopped or hangs may have its socket still, and containers that run on. */
function hasNoSocket(error: unknown): boolean {
  const { cause } = error instanceof OverlayError ? error : {};
  return cause instanceof Error && "code" in cause && cause.code === "ENOENT";
}
