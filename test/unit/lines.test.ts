import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { OverlayError } from "../../shared/errors.ts";
import { byQuery } from "../../shared/node/routes.ts";
import { Lines, linesUnix, UnixHttpServer } from "../../shared/node/unix-http.ts";
import { failOnCrashes } from "../support/crashes.ts";
import { PATIENT } from "../support/patient.ts";

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-lines-"));
let socket = "";
let served = 0;
let stop: (() => Promise<unknown>) | undefined;
beforeEach(() => {
  // Node's agent keeps connections to the one before.
  socket = join(directory, `${++served}.sock`);
});
afterEach(async () => {
  await stop?.();
  stop = undefined;
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

async function serve(values: (signal: AbortSignal) => AsyncIterable<unknown>): Promise<void> {
  const server = new UnixHttpServer(socket, {
    "GET /lines": byQuery([], async (_query, signal) => new Lines(values(signal))),
    "GET /refused": byQuery([], async () => {
      throw new OverlayError({ code: "CONFLICT", message: "not now", next: "later" });
    }),
  });
  await server.start();
  stop = () => server.stop();
}

/** Any server at all. */
async function serveRaw(server: Server): Promise<void> {
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  stop = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
}

async function all(url = "/lines"): Promise<unknown[]> {
  const found: unknown[] = [];
  for await (const value of linesUnix(socket, url)) found.push(value);
  return found;
}

async function* counting(to: number): AsyncGenerator<number> {
  for (let i = 1; i <= to; i++) yield i;
}

describe("an answer in lines", () => {
  test("comes as it was given, however it is cut on its way", async () => {
    const texts = ["a\nb", "ü".repeat(100_000), "", "{}"];
    await serve(async function* () {
      for (const text of texts) yield { text };
    });
    expect(await all()).toEqual(texts.map((text) => ({ text })));
  });

  test("each line when it is there", async () => {
    const more = Promise.withResolvers<void>();
    await serve(async function* () {
      yield 1;
      await more.promise;
      yield 2;
    });
    const lines = linesUnix<number>(socket, "/lines");
    expect((await lines.next()).value).toBe(1);
    more.resolve();
    expect([(await lines.next()).value, (await lines.next()).done]).toEqual([2, true]);
  });

  test("that fails ends with why", async () => {
    await serve(async function* () {
      yield* counting(3);
      throw new OverlayError({ code: "TOO_LARGE", message: "too slow", next: "read" });
    });
    const found: unknown[] = [];
    const read = async (): Promise<void> => {
      for await (const value of linesUnix(socket, "/lines")) found.push(value);
    };
    await expect(read()).rejects.toMatchObject({ code: "TOO_LARGE", next: "read" });
    expect(found).toEqual([1, 2, 3]);
  });

  test("that is refused before it begins", async () => {
    await serve(() => counting(1));
    await expect(all("/refused")).rejects.toMatchObject({ code: "CONFLICT", message: "not now" });
    await expect(all("/lines?x=1")).rejects.toThrow(/knows the key x/);
  });

  test("is taken no faster than it is read", async () => {
    let given = 0;
    await serve(async function* () {
      for (;;) yield { given: ++given, filler: "x".repeat(1000) };
    });
    const slow = connect(socket);
    slow.write("GET /lines HTTP/1.1\r\nhost: x\r\n\r\n");
    slow.pause();
    let before = -1;
    await vi.waitFor(() => {
      const still = given > 0 && given === before;
      before = given;
      expect(still).toBe(true);
    }, PATIENT);
    // What socket buffers of both sides hold.
    expect(given).toBeLessThan(10_000);
    slow.destroy();
  });

  test.each(["hangs up", "never reads, and hangs up"])("whoever %s is let go", async (how) => {
    const gone = Promise.withResolvers<void>();
    await serve(async function* (signal) {
      signal.addEventListener("abort", () => gone.resolve());
      if (how === "hangs up") yield* counting(2);
      else for (;;) yield "x".repeat(100_000);
      await gone.promise;
    });
    const asker = connect(socket);
    asker.write("GET /lines HTTP/1.1\r\nhost: x\r\n\r\n");
    asker.once("data", () => (how === "hangs up" ? asker.destroy() : asker.pause()));
    if (how !== "hangs up") setImmediate(() => asker.destroy());
    await gone.promise;
  });

  test("that breaks off is none that ended", async () => {
    await serveRaw(
      createServer((_request, response) => {
        response.write("1\n");
        setImmediate(() => response.destroy());
      }),
    );
    await expect(all()).rejects.toMatchObject({ code: "UNREACHABLE" });
    await expect(all()).rejects.toThrow(/ended in the middle of its answer/);
  });

  test("of a server that stops: it waits for nobody", async () => {
    const gone = Promise.withResolvers<void>();
    await serve(async function* (signal) {
      signal.addEventListener("abort", () => gone.resolve());
      yield 1;
      await gone.promise;
    });
    const lines = linesUnix<number>(socket, "/lines");
    expect((await lines.next()).value).toBe(1);
    const rest = expect(lines.next()).rejects.toThrow(/ended in the middle of its answer/);
    await stop?.();
    stop = undefined;
    await rest;
  });

  test("of another program", async () => {
    await serveRaw(createServer((_request, response) => response.end("hello\n")));
    await expect(all()).rejects.toThrow(/in no words of overlay-ts/);
  });

  test("nobody there", async () => {
    await expect(all()).rejects.toMatchObject({ code: "UNREACHABLE" });
  });
});
