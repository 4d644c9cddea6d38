import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { ProcessLock } from "../../../shared/node/process-lock.ts";

const directory = mkdtempSync(join(tmpdir(), "ovt-lock-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("who lives is seen, in its own words, and who ended is not", () => {
  const path = join(directory, "new/agent.lock");
  const lock = ProcessLock.take(path, "the agent");
  expect(lock).toBeInstanceOf(ProcessLock);
  expect(ProcessLock.holder(path)).toBe(`the agent, process ${process.pid}`);
  expect(ProcessLock.take(path, "another")).toEqual({
    heldBy: `the agent, process ${process.pid}`,
  });
  // A program that it starts does not hold it.
  const elsewhere = spawnSync("flock", ["-n", path, "true"]);
  expect(elsewhere.status).toBe(1);
  (lock as ProcessLock).release();
  expect(ProcessLock.holder(path)).toBeUndefined();
  expect(spawnSync("flock", ["-n", path, "true"]).status).toBe(0);
});
