import { describe, expect, test } from "vitest";
import type {
  Connection,
  EngineNetwork,
  NewEngineNetwork,
} from "../../../agent/docker/engine/port.ts";
import { giveWay, type GiveWayModules } from "../../../agent/docker/give-way.ts";
import { viewOf } from "../../../agent/docker/views.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { DockerNetworkId } from "../../../shared/ids.ts";
import { silentLog } from "../../../shared/ports.ts";
import { app } from "../../support/cluster.ts";

const network: EngineNetwork = {
  id: DockerNetworkId.parse("a".repeat(64)),
  name: "app",
  driver: "overlay-ts",
  internal: false,
  attachable: true,
  labels: {},
  options: {},
  subnets: [],
  dockerRanges: [],
};

const QUIET_MS = 60;
const REPLACEMENT = DockerNetworkId.parse("b".repeat(64));

const container = (name: string, started = true): Connection => ({
  container: name,
  started,
  aliases: [`alias-of-${name}`],
  links: [],
  addresses: {},
});

/** An engine with one network; it refuses to remove one that a container runs on. */
class FakeEngine {
  readonly said: string[] = [];
  /** Before each look; the last one stays. */
  readonly looks: Connection[][];
  readonly refuseRemovals: number;
  taken = false;
  /** Who is on it when it is to be removed for the first time. */
  came: Connection[] = [];
  #removals = 0;

  constructor(looks: Connection[][], refuseRemovals = 0) {
    this.looks = looks;
    this.refuseRemovals = refuseRemovals;
  }

  modules(): GiveWayModules {
    return {
      engine: {
        connections: async () => (this.looks.length > 1 ? this.looks.shift() : this.looks[0]) ?? [],
        connect: async (name, { container: id, aliases }) => {
          this.said.push(`connect ${id} (${aliases.join()}) to ${name}`);
        },
        disconnect: async (_, { container: id }) => {
          this.said.push(`disconnect ${id}`);
        },
        removeNetwork: async () => {
          if (++this.#removals <= this.refuseRemovals) {
            // Who came in that moment, and is moved once.
            this.looks[0] = this.#removals === 1 ? this.came : [];
            throw new Error("has active endpoints");
          }
          this.said.push("remove");
        },
        createNetwork: async (request: NewEngineNetwork) => {
          if (this.taken) throw new OverlayError({ code: "CONFLICT", message: "exists" });
          this.said.push(`create ${request.name}`);
          return REPLACEMENT;
        },
      },
      log: silentLog,
    };
  }
}

describe("a network that gives way", () => {
  const give = (engine: FakeEngine): Promise<void> =>
    giveWay(network, viewOf(app, "app"), engine.modules(), QUIET_MS);

  test("goes, and the other is there at once", async () => {
    const engine = new FakeEngine([[]]);
    await give(engine);
    expect(engine.said).toEqual(["remove", "create app"]);
  });

  test("takes its containers over, with their aliases", async () => {
    const engine = new FakeEngine([[container("x")]]);
    await give(engine);
    expect(engine.said).toEqual([
      "disconnect x",
      "remove",
      "create app",
      `connect x (alias-of-x) to ${REPLACEMENT}`,
    ]);
  });

  test("waits for what is about to start", async () => {
    const engine = new FakeEngine([[container("x", false)], [container("x")]]);
    await give(engine);
    expect(engine.said[0]).toBe("disconnect x");
  });

  test("is left to who made it, until nobody comes or goes", async () => {
    const engine = new FakeEngine([[], [], [container("x")], [container("x")]]);
    await give(engine);
    expect(engine.said.slice(0, 2)).toEqual(["disconnect x", "remove"]);
  });

  test("takes over who started meanwhile", async () => {
    const engine = new FakeEngine([[]], 1);
    engine.came = [container("x")];
    await give(engine);
    expect(engine.said).toEqual([
      "disconnect x",
      "remove",
      "create app",
      `connect x (alias-of-x) to ${REPLACEMENT}`,
    ]);
  });

  test("may find the other one there already", async () => {
    const engine = new FakeEngine([[container("x")]]);
    engine.taken = true;
    await give(engine);
    expect(engine.said.at(-1)).toBe("connect x (alias-of-x) to app");
  });

  test("that cannot go keeps its containers", async () => {
    const engine = new FakeEngine([[]], 99);
    engine.came = [container("x")];
    await expect(give(engine)).rejects.toThrow(/active endpoints/);
    expect(engine.said).toEqual(["disconnect x", "connect x (alias-of-x) to app"]);
  });
});
