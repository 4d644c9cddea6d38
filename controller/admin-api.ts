import { z } from "zod";
import { bare, byBody, byQuery } from "../shared/node/routes.ts";
import { EXPOSITION_TYPE, exposition } from "../shared/exposition.ts";
import { PlainText, type Routes } from "../shared/node/unix-http.ts";
import type { Failure } from "../shared/errors.ts";
import type { Controller } from "./controller.ts";
import { controllerFamilies } from "./metrics.ts";
import { DEFAULT_TOKEN_TTL_MS, DEFAULT_TOKEN_USES } from "./core/tokens.ts";

const TokenBody = z.object({
  ttlMs: z.number().int().default(DEFAULT_TOKEN_TTL_MS),
  uses: z.number().int().default(DEFAULT_TOKEN_USES),
  networks: z.array(z.string().min(1).max(128)).max(128).optional(),
});

/** The bounds are checked with what is there already. */
const KeyScheduleBody = z.strictObject({
  ipsecMs: z.number().optional(),
  ipsecPackets: z.number().optional(),
  ipsecBytes: z.number().optional(),
  gossipMs: z.number().optional(),
});

export interface ControllerStatus {
  readonly cluster: string;
  readonly revision: number;
  /** Why it decides nothing. */
  readonly problem?: Failure | undefined;
}

/**
 * What root on the controller's host may do: admission is decided here and nowhere else. `look`: whether
 * this host's agent knows of something newer, before anything is decided; `unheard`: why no host reaches it;
 * `backedUpAtMs`: when its data were last saved.
 */
export function adminRoutes(
  controller: Pick<
    Controller,
    | "state"
    | "createToken"
    | "removeNode"
    | "changeKeySchedule"
    | "problem"
    | "announce"
    | "measured"
  >,
  look: () => Promise<void>,
  unheard: () => Failure | undefined = () => undefined,
  backedUpAtMs: () => number | undefined = () => undefined,
): Routes {
  const looked = async <T>(decide: () => Promise<T>): Promise<T> => {
    await look();
    return decide();
  };
  return {
    "GET /v1/status": bare(async () => {
      const { cluster, revision } = await controller.state();
      const status: ControllerStatus = {
        cluster,
        revision,
        problem: (await controller.problem()) ?? unheard(),
      };
      return status;
    }),
    "GET /v1/metrics": bare(async () => {
      const facts = {
        ...(await controller.measured()),
        hasProblem: ((await controller.problem()) ?? unheard()) !== undefined,
        backedUpAtMs: backedUpAtMs(),
        nowMs: Date.now(),
        residentBytes: process.memoryUsage.rss(),
      };
      return new PlainText(EXPOSITION_TYPE, exposition(controllerFamilies(facts)));
    }),
    /** After a command changed the record beside us. */
    "POST /v1/announce": bare(async () => {
      await controller.announce();
      return { announced: true };
    }),
    "GET /v1/state": bare(() => controller.state()),
    "POST /v1/tokens": byBody(TokenBody, ({ networks, ...rest }) =>
      looked(() => controller.createToken(networks === undefined ? rest : { ...rest, networks })),
    ),
    "POST /v1/key-schedule": byBody(KeyScheduleBody, (changes) =>
      looked(() => controller.changeKeySchedule(changes)),
    ),
    "DELETE /v1/nodes": byQuery(["name"], ({ name = "" }) =>
      looked(() => controller.removeNode(name)),
    ),
  };
}
