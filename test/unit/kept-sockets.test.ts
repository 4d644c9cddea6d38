import type { ChildProcess } from "node:child_process";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { eventually as eventuallyWithin } from "../support/lab-host.ts";
import { ServiceManager } from "../support/service-manager.ts";

const eventually = (what: string, check: () => void): Promise<void> =>
  eventuallyWithin(20_000, what, async () => check());

const PROGRAM = join(import.meta.dirname, "../support/echo-service.ts");

describe("sockets that the service manager keeps", () => {
  let directory: string;
  let manager: ServiceManager;
  const processes: ChildProcess[] = [];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "overlay-ts-kept-"));
    manager = new ServiceManager(directory);
  });

  afterEach(() => {
    for (const process of processes.splice(0)) process.kill("SIGKILL");
    manager.stop();
    rmSync(directory, { recursive: true });
  });

  /** What it says of itself: its port, and whether the socket came from another. */
  async function start(): Promise<{ process: ChildProcess; said: Said }> {
    const process = manager.start(PROGRAM);
    processes.push(process);
    if (process.stdout === null) throw new Error("no output");
    const [line] = (await once(createInterface(process.stdout), "line")) as [string];
    return { process, said: JSON.parse(line) as Said };
  }

  async function kill(process: ChildProcess): Promise<void> {
    const ended = once(process, "exit");
    process.kill("SIGKILL");
    await ended;
  }

  test("no datagram is lost while the service is killed and started again", async () => {
    const first = await start();
    expect(first.said).toMatchObject({ adopted: false });
    await eventually("the store", () => expect(manager.store).toHaveLength(1));
    const client = new Client(first.said.port);
    await eventually("the client", () => expect(client.answered).toBeGreaterThan(20));
    // None is in the process's own hands, where no manager could save it.
    await client.untilAllAnswered();
    const dead = kill(first.process);
    const before = client.sent;
    await dead;
    await eventually("the client", () => expect(client.sent).toBeGreaterThan(before + 20));
    expect(client.answered).toBe(before);
    const second = await start();
    expect(second.said).toMatchObject({ adopted: true, port: first.said.port });
    await eventually("the client", () => expect(client.answered).toBeGreaterThan(before + 40));
    client.stop();
    await eventually("the client", () => expect(client.answered).toBe(client.sent));
    client.close();
  });

  test("what it starts gets none of them", async () => {
    const first = await start();
    await eventually("the store", () => expect(manager.store).toHaveLength(1));
    await kill(first.process);
    const { said } = await start();
    expect(said).toMatchObject({ adopted: true, seenByChild: [] });
  });

  test("one that is released is closed: nobody holds its port any more", async () => {
    const { process, said } = await start();
    await eventually("the store", () => expect(manager.store).toHaveLength(1));
    process.kill("SIGUSR2");
    await eventually("the store", () => expect(manager.store).toHaveLength(0));
    await kill(process);
    const other = createSocket("udp4");
    other.bind(said.port, "127.0.0.1");
    await once(other, "listening");
    other.close();
  });
});

interface Said {
  readonly port: number;
  readonly adopted: boolean;
  /** Descriptors above those of its input and outputs that a program started by it has. */
  readonly seenByChild: readonly string[];
}

/** Asks every 2 ms, and counts what comes back, each once. */
class Client {
  sent = 0;
  readonly #answers = new Set<string>();
  readonly #socket: Socket = createSocket("udp4");
  readonly #timer: NodeJS.Timeout;
  #all: (() => void) | undefined;

  constructor(port: number) {
    this.#socket.on("message", (bytes) => {
      this.#answers.add(bytes.toString());
      if (this.answered === this.sent) this.#all?.();
    });
    this.#timer = setInterval(() => {
      this.#socket.send(String(this.sent++), port, "127.0.0.1");
    }, 2);
  }

  get answered(): number {
    return this.#answers.size;
  }

  async untilAllAnswered(): Promise<void> {
    await new Promise<void>((resolve) => (this.#all = resolve));
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  close(): void {
    this.#socket.close();
  }
}
