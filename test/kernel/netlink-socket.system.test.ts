import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, expect, test } from "vitest";
import { linksOf } from "../../agent/kernel/netlink/dumps.ts";
import { openRouteSocket } from "../../agent/kernel/netlink/raw-socket.ts";
import { RtNetlink } from "../../agent/kernel/netlink/socket.ts";

/** The name server's thread opens sockets by the hundred while the main thread opens these. */
const OPENS_OTHERS = `
  const { createSocket } = require("node:dgram");
  const { parentPort } = require("node:worker_threads");
  parentPort.on("message", () => process.exit(0));
  const round = () => {
    const sockets = Array.from({ length: 20 }, () => createSocket("udp4").bind(0, "127.0.0.1"));
    setTimeout(() => {
      for (const socket of sockets) socket.close();
      setImmediate(round);
    }, 1);
  };
  round();
`;

let others: Worker;

beforeAll(() => {
  others = new Worker(OPENS_OTHERS, { eval: true });
});
afterAll(() => others.terminate());

/** Of this process. */
function netlinkSockets(): number {
  const inodes = new Set(
    readFileSync("/proc/self/net/netlink", "utf8")
      .split("\n")
      .map((line) => `socket:[${line.trim().split(/\s+/).at(-1)}]`),
  );
  return readdirSync("/proc/self/fd").filter((fd) => inodes.has(linkOf(fd))).length;
}

/** Empty: closed meanwhile. */
function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return "";
  }
}

test("a socket is opened, and none left behind, while another thread opens its own", async () => {
  const before = netlinkSockets();
  const sockets = Array.from({ length: 1000 }, () => openRouteSocket(undefined));
  expect(netlinkSockets() - before).toBe(sockets.length);
  for (const socket of sockets) socket.close();
  await expect.poll(netlinkSockets).toBe(before);
});

/** The native half would end this process: a closed socket that waited to write was written to. */
test("a socket is closed by the answer to the first of several questions; the others are told so", async () => {
  const before = netlinkSockets();
  for (let i = 0; i < 50; i++) {
    const socket = new RtNetlink(undefined);
    // From a timer the answer comes before what is sent next is written.
    await delay(1);
    const [first, ...others] = Array.from({ length: 4 }, () => linksOf(socket));
    const closed = first!.then(() => socket.close());
    for (const other of others) await expect(other).rejects.toThrow("the socket was closed");
    await closed;
    await expect(linksOf(socket)).rejects.toThrow("the socket was closed");
  }
  await expect.poll(netlinkSockets).toBe(before);
});
