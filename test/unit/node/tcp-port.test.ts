import { once } from "node:events";
import { connect, createServer, type Server } from "node:net";
import { Worker } from "node:worker_threads";
import { afterEach, expect, test } from "vitest";
import { askPort } from "../../../shared/node/tcp-port.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function listening(): Promise<{ server: Server; port: number }> {
  const server = createServer((socket) => socket.on("error", () => {})).listen(0, "127.0.0.1");
  await once(server, "listening");
  closing.push(() => server.close());
  return { server, port: (server.address() as { port: number }).port };
}

test("a port where somebody listens takes the connection, whatever it says then", async () => {
  const { port } = await listening();
  expect(await askPort("127.0.0.1", port)).toEqual({ kind: "accepts" });
});

test("a process that had no processor meanwhile still sees what came in time", async () => {
  const { port } = await listening();
  const asked = askPort("127.0.0.1", port, 1);
  const untilMs = performance.now() + 20;
  while (performance.now() < untilMs);
  expect(await asked).toEqual({ kind: "accepts" });
});

test("a port that nobody has refuses", async () => {
  const { server, port } = await listening();
  server.close();
  await once(server, "close");
  expect(await askPort("127.0.0.1", port)).toEqual({ kind: "refuses" });
});

test("an address to which nothing can be connected has no route", async () => {
  expect(await askPort("224.0.0.1", 7947)).toEqual({ kind: "no-route" });
});

/** Its queue is full: the kernel drops what would open more, as a firewall does. */
test("a port that lets the opening packet fall is silent", async () => {
  const worker = new Worker(
    `const { parentPort } = require("node:worker_threads");
     const server = require("node:net").createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => {
       parentPort.postMessage(server.address().port);
       Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
     });`,
    { eval: true },
  );
  closing.push(() => worker.terminate());
  const [port] = (await once(worker, "message")) as [number];
  for (let held = 0; held < 2; held++) {
    const socket = connect({ host: "127.0.0.1", port }).on("error", () => {});
    await once(socket, "connect");
    closing.push(() => socket.destroy());
  }
  expect(await askPort("127.0.0.1", port, 300)).toEqual({ kind: "silent" });
});
