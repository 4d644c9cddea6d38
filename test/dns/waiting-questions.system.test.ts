import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import koffi from "koffi";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { markOf } from "../../agent/names/server/transparent.ts";
import { eventually } from "../support/lab-host.ts";

const libc = koffi.load("libc.so.6");
const socket = libc.func("int socket(int domain, int type, int protocol)");
const close = libc.func("int close(int fd)");
const setsockopt = libc.func(
  "int setsockopt(int fd, int level, int name, const int *value, uint32_t length)",
);
const getsockopt = libc.func(
  "int getsockopt(int fd, int level, int name, _Out_ int *value, _Inout_ uint32_t *length)",
);
const AF_INET = 2;
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;
const SOCK_DGRAM_CLOEXEC = 2 | 0o2000000;
const IP_TRANSPARENT = 19;

const PROGRAM = join(import.meta.dirname, "../support/waiting-service.ts");
const FOR_EVER_MS = 1_000_000;

describe("questions that wait for the next agent", () => {
  /** Copies of what the program gets: options are of the socket, whoever holds it. */
  let sockets: number[];
  const processes: ChildProcess[] = [];

  beforeEach(() => {
    sockets = [SOCK_DGRAM_CLOEXEC, SOCK_STREAM_CLOEXEC].map(
      (type) => socket(AF_INET, type, 0) as number,
    );
    for (const fd of sockets) expect(setsockopt(fd, 0, IP_TRANSPARENT, [1], 4)).toBe(0);
  });

  afterEach(() => {
    for (const process of processes.splice(0)) process.kill("SIGKILL");
    for (const fd of sockets) close(fd);
  });

  /** Who gets the questions, by socket: we while it is transparent. */
  function asked(): string {
    const who = sockets.map((fd) => {
      const value = [0];
      expect(getsockopt(fd, 0, IP_TRANSPARENT, value, [4])).toBe(0);
      return value[0] === 1 ? "we" : "Docker";
    });
    return [...new Set(who)].join(" and ");
  }

  async function start(
    what: "fail" | "load" | "serve" | "wait",
    patienceMs: number,
  ): Promise<{ readonly process: ChildProcess; readonly lines: Interface }> {
    const process = spawn(
      "/bin/sh",
      [
        "-c",
        'LISTEN_PID=$$ exec "$0" "$@"',
        globalThis.process.execPath,
        PROGRAM,
        what,
        String(patienceMs),
      ],
      {
        stdio: ["ignore", "pipe", "ignore", ...sockets],
        env: { ...globalThis.process.env, LISTEN_FDS: String(sockets.length) },
      },
    );
    processes.push(process);
    if (process.stdout === null) throw new Error("no output");
    const lines = createInterface(process.stdout);
    await once(lines, "line");
    return { process, lines };
  }

  async function ended({ process }: { readonly process: ChildProcess }): Promise<void> {
    if (process.exitCode === null && process.signalCode === null) await once(process, "exit");
  }

  test("go to Docker when nobody serves them in time, also while the program does nothing but load", async () => {
    await start("load", 100);
    await eventually(10_000, "Docker's turn", async () => expect(asked()).toBe("Docker"));
  });

  test("wait as long as there is patience", async () => {
    const { process, lines } = await start("wait", FOR_EVER_MS);
    expect(asked()).toBe("we");
    process.kill("SIGUSR2");
    expect(await once(lines, "line")).toEqual(["in time"]);
    expect(asked()).toBe("we");
  });

  test("go to Docker when the program fails before it serves", async () => {
    await ended(await start("fail", FOR_EVER_MS));
    expect(asked()).toBe("Docker");
  });

  test("wait for the next one when a program ends that served", async () => {
    await ended(await start("serve", FOR_EVER_MS));
    expect(asked()).toBe("we");
    expect(sockets.map(markOf)).toEqual([0, 0]);
  });

  test("who serves late is told that Docker answers by now", async () => {
    const { process, lines } = await start("wait", 50);
    await eventually(10_000, "Docker's turn", async () => expect(asked()).toBe("Docker"));
    process.kill("SIGUSR2");
    expect(await once(lines, "line")).toEqual(["late"]);
  });

  test("after two starts that were killed before they served the third lets go at once", async () => {
    for (const _ of [1, 2]) {
      const program = await start("load", FOR_EVER_MS);
      program.process.kill("SIGKILL");
      await ended(program);
      expect(asked()).toBe("we");
    }
    await start("load", FOR_EVER_MS);
    expect(asked()).toBe("Docker");
  });

  test("a start that served is no failed one", async () => {
    for (const _ of [1, 2, 3]) await ended(await start("serve", FOR_EVER_MS));
    const program = await start("load", FOR_EVER_MS);
    expect(asked()).toBe("we");
    program.process.kill("SIGKILL");
  });
});
