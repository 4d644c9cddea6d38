import { asFailure } from "../../shared/errors.ts";
import type { NameServer, SandboxStatus } from "../names/server/port.ts";

/** How containers' questions are answered, for `status`. */
export interface NamesStatus {
  /** By what happened: answered, forwarded, refused, dropped, … */
  readonly counters: Readonly<Record<string, number>>;
  /** How many, by how their names are served. */
  readonly sandboxes: Readonly<Record<SandboxStatus["state"], number>>;
  /** Of a sandbox that Docker's resolver alone serves, or of the server itself. */
  readonly lastProblem: string | undefined;
}

/** Never fails: what keeps the server from answering is in `lastProblem`. */
export async function namesStatus(
  server: Pick<NameServer, "sandboxes" | "counters">,
): Promise<NamesStatus> {
  const none = { waiting: 0, serving: 0, failed: 0 };
  try {
    const [all, counters] = await Promise.all([server.sandboxes(), server.counters()]);
    const sandboxes = { ...none };
    for (const { state } of all) sandboxes[state]++;
    const failed = all.findLast(({ state }) => state === "failed");
    return { counters, sandboxes, lastProblem: failed && (failed.problem ?? "no reason is known") };
  } catch (error) {
    return { counters: {}, sandboxes: none, lastProblem: asFailure(error).message };
  }
}
