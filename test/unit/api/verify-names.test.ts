import { describe, expect, test } from "vitest";
import type { NameServer, SandboxId, SandboxStatus } from "../../../agent/names/server/port.ts";
import { unservedSandboxes } from "../../../agent/api/verify-names.ts";
import { namesStatus } from "../../../agent/api/names-status.ts";

const id = (digit: string): SandboxId => digit.repeat(12) as SandboxId;
const at = (digit: string, state: SandboxStatus["state"], problem?: string): SandboxStatus => ({
  id: id(digit),
  state,
  problem,
});

describe("how names are served", () => {
  const serving = (
    sandboxes: readonly SandboxStatus[],
    counters: Record<string, number> = {},
  ): Pick<NameServer, "sandboxes" | "counters"> => ({
    sandboxes: async () => sandboxes,
    counters: async () => counters,
  });

  test("by how many sandboxes, with what is wrong", async () => {
    expect(await namesStatus(serving([at("a", "serving"), at("b", "waiting")]))).toEqual({
      counters: {},
      sandboxes: { serving: 1, waiting: 1, failed: 0 },
      lastProblem: undefined,
    });
    const bad = [at("a", "failed", "EPERM"), at("b", "failed", "EBUSY"), at("c", "serving")];
    expect(await namesStatus(serving(bad, { answered: 7 }))).toEqual({
      counters: { answered: 7 },
      sandboxes: { serving: 1, waiting: 0, failed: 2 },
      lastProblem: "EBUSY",
    });
    expect((await namesStatus(serving([at("a", "failed")]))).lastProblem).toMatch(/no reason/);
  });

  test("a server that does not answer keeps nobody from the rest of the status", async () => {
    const gone = {
      ...serving([]),
      counters: () => Promise.reject(new Error("the worker has gone")),
    };
    expect(await namesStatus(gone)).toEqual({
      counters: {},
      sandboxes: { serving: 0, waiting: 0, failed: 0 },
      lastProblem: "the worker has gone",
    });
  });
});

describe("verify", () => {
  test("a sandbox that should be served and is not, and one that is and should not be", () => {
    const wanted = ["a", "b", "c", "d"].map(id);
    const served = [
      at("a", "serving"),
      at("b", "failed", "EPERM"),
      at("c", "waiting"),
      at("e", "serving"),
    ];
    expect(unservedSandboxes(wanted, served)).toEqual([
      "names are not served in sandbox bbbbbbbbbbbb: EPERM",
      "names are not served yet in sandbox cccccccccccc: Docker has not made its namespace",
      "names are not served in sandbox dddddddddddd",
      "names are served in sandbox eeeeeeeeeeee, which no container here needs",
    ]);
    expect(unservedSandboxes([id("a")], [at("a", "serving")])).toEqual([]);
  });
});
