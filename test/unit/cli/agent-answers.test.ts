import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { callAgent, type Context, filesOf, followAgent } from "../../../agent/cli/context.ts";
import { OverlayError } from "../../../shared/errors.ts";
import { ProcessLock } from "../../../shared/node/process-lock.ts";
import { bare } from "../../../shared/node/routes.ts";
import { UnixHttpServer } from "../../../shared/node/unix-http.ts";

let context: Context;
let directory: string;
let lock: ProcessLock;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "ovt-answers-"));
  context = { dataDirectory: directory, runDirectory: directory };
  const taken = ProcessLock.take(filesOf(context).lock, "the agent");
  if (!(taken instanceof ProcessLock)) throw new Error(taken.heldBy);
  lock = taken;
});

afterEach(() => {
  lock.release();
  rmSync(directory, { recursive: true });
});

test("what an agent says of somebody else who does not answer is not taken for its own silence", async () => {
  const message = "the controller at 198.51.100.1:7952/tcp does not answer";
  const server = new UnixHttpServer(join(directory, "agent.sock"), {
    "POST /v1/keys": bare(() => Promise.reject(new OverlayError({ code: "UNREACHABLE", message }))),
  });
  await server.start();
  try {
    await expect(callAgent(context, "POST", "/v1/keys")).rejects.toThrow(message);
  } finally {
    await server.stop();
  }
  await expect(callAgent(context, "POST", "/v1/keys")).rejects.toThrow("its socket is gone");
});

test("an agent that lives without its socket is not said to be stopped, whatever it is asked", async () => {
  const events = followAgent(context, "/v1/events");
  for (const asked of [callAgent(context, "GET", "/v1/status"), events.next()])
    await expect(asked).rejects.toMatchObject({
      message: expect.stringContaining("its socket is gone") as string,
      next: expect.stringContaining("restart overlay-ts-agent") as string,
    });
});
