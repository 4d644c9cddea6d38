import { beforeEach, expect, test, vi } from "vitest";
import type { EngineEvent } from "../../../agent/docker/engine/port.ts";
import { EngineEvents } from "../../../agent/docker/engine-events.ts";
import { type ErrorCode, OverlayError } from "../../../shared/errors.ts";
import { PATIENT } from "../../support/patient.ts";

const listening: EngineEvent = { kind: "listening" };
let streams: (ErrorCode | "opened")[];
let heard: EngineEvent[];
let said: (string | undefined)[];
let logged: number;
let engineEvents: EngineEvents;

/** Each stream ends as it is told, the last one never. */
async function* events(signal: AbortSignal): AsyncGenerator<EngineEvent> {
  const next = streams.shift();
  if (next !== undefined && next !== "opened")
    throw new OverlayError({ code: next, message: "no" });
  yield listening;
  if (next === undefined)
    await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
}

beforeEach(() => {
  [streams, heard, said, logged] = [[], [], [], 0];
  const count = (): void => void logged++;
  const modules = {
    engine: { events },
    heard: (event: EngineEvent) => void heard.push(event),
    failureChanged: () => said.push(engineEvents.failure()?.message),
    log: { debug: count, info: count, warn: count, error: count },
  };
  engineEvents = new EngineEvents(modules, 1);
});

/** Streams that end so, and then one that does not. */
async function listened(...streamsThen: (ErrorCode | "opened")[]): Promise<void> {
  streams = streamsThen;
  const opened = streams.filter((stream) => stream === "opened").length + 1;
  const stop = new AbortController();
  const done = engineEvents.listen(stop.signal);
  await vi.waitFor(() => expect(heard).toHaveLength(opened), PATIENT);
  stop.abort();
  await done;
}

test("events that stay away are said once, with what to do, until they come", async () => {
  await listened("INTERNAL", "INTERNAL", "INTERNAL", "INTERNAL");
  expect(said).toEqual(["no events come from the engine: no", undefined]);
  expect(logged).toBe(1);
});

test("an engine that starts again, and one that is away, is no news here", async () => {
  await listened("opened", "INTERNAL", "opened", "INTERNAL", "UNREACHABLE", "UNREACHABLE");
  expect(said).toEqual([]);
});
