import { setTimeout as delay } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import type { Life } from "../../agent/core/life.ts";
import { type Ended, Lifecycle, type Living } from "../../agent/lifecycle.ts";
import { type Failure, OverlayError } from "../../shared/errors.ts";
import { silentLog } from "../../shared/ports.ts";

const FORCE = { force: true };

/** An agent that writes down what was asked of it; what it does next is the test's to say. */
class ToldAgent implements Living {
  readonly name: string;
  readonly #told: string[];
  readonly #script: Script;

  constructor(name: string, told: string[], script: Script) {
    this.name = name;
    this.#told = told;
    this.#script = script;
  }

  async start(): Promise<void> {
    this.#note("start");
    await this.#script.start?.();
  }

  serve(): void {
    this.#note("serve");
  }

  async endServing(): Promise<void> {
    this.#note("endServing");
  }

  async busy(): Promise<readonly string[]> {
    return this.#script.busy ?? [];
  }

  async withdraw(): Promise<Ended> {
    this.#note("withdraw");
    const { removed } = this.#script;
    return { cutOff: [], stays: ["a view"], ...(removed === undefined ? {} : { removed }) };
  }

  async stop(names: "handOver" | "letGo"): Promise<void> {
    this.#note(`stop ${names}`);
    await this.#script.stop?.();
  }

  #note(what: string): void {
    this.#told.push(`${this.name} ${what}`);
  }
}

interface Script {
  member: boolean;
  read?: () => Promise<void>;
  start?: () => Promise<void>;
  /** Networks with containers; undefined: none, null: who has ports in the kernel cannot be asked. */
  busy?: readonly string[] | null;
  /** An end before left containers. */
  held?: boolean;
  clear?: () => Promise<void>;
  stop?: () => Promise<void>;
  removed?: boolean;
  /** Of the agent made last. */
  cannotRun?: (failure: Failure) => void;
}

const stops: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

function begin(script: Script, times = { lookMs: 1, retryMs: 1 }) {
  const told: string[] = [];
  const states: Life["state"][] = [];
  const logged: { fields: object; message: string }[] = [];
  const stopping = new AbortController();
  let count = 0;
  const life = new Lifecycle<true, ToldAgent>(
    {
      membership: {
        read: async () => {
          await script.read?.();
          return script.member || undefined;
        },
        isThere: () => script.member,
        forget: () => {
          told.push("forget");
          script.member = false;
        },
      },
      make: (_member, cannotRun) => {
        script.cannotRun = cannotRun;
        return new ToldAgent(`agent ${++count}`, told, script);
      },
      remains: {
        busy: async () => {
          if (script.busy === null) throw failure("netlink is stuck");
          return script.busy ?? [];
        },
        withdraw: async () => {
          told.push("withdraw without an agent");
          return { cutOff: [], stays: [] };
        },
        hold: async () => {
          told.push("hold");
          return script.held === true;
        },
        clear: async (containers) => {
          told.push(containers === "run on" ? "clear, but hold" : "clear");
          await script.clear?.();
        },
      },
      became: ({ state }) => void states.push(state),
      isLast: async () => false,
      log: { ...silentLog, error: (fields, message) => void logged.push({ fields, message }) },
    },
    times,
  );
  const running = life.run(stopping.signal, async () => void told.push("drain"));
  const stop = async (): Promise<void> => {
    stopping.abort();
    await running;
  };
  stops.push(stop);
  const reached = (state: Life["state"]): Promise<void> =>
    expect.poll(() => life.life().state, { timeout: 20_000, interval: 1 }).toBe(state);
  return { life, told, states, logged, reached, stop };
}

const failure = (message: string): OverlayError =>
  new OverlayError({ code: "PORT_TAKEN", message, next: "free it" });

test("a host joins, leaves, and joins again", async () => {
  const script: Script = { member: false };
  const { life, told, states, reached } = begin(script);
  await reached("not-joined");
  await expect(life.member()).rejects.toMatchObject({ code: "NOT_JOINED" });
  await expect(life.end("forgotten", FORCE)).rejects.toMatchObject({ code: "NOT_JOINED" });
  script.member = true;
  await reached("member");
  expect((await life.member()).name).toBe("agent 1");
  await life.end("forgotten", FORCE);
  expect(life.life().state).toBe("not-joined");
  expect(told).toEqual([
    "agent 1 start",
    "agent 1 serve",
    "hold",
    "agent 1 withdraw",
    "agent 1 stop letGo",
    "clear",
    "forget",
  ]);
  script.member = true;
  await reached("member");
  expect((await life.member()).name).toBe("agent 2");
  expect(states).toEqual([
    "starting",
    "not-joined",
    "starting",
    "member",
    "ending",
    "not-joined",
    "starting",
    "member",
  ]);
});

test("an agent that cannot start is tried again, and says why meanwhile", async () => {
  const gate = Promise.withResolvers<void>();
  const { life, told, reached } = begin({
    member: true,
    start: () => gate.promise,
  });
  const asked = life.member();
  gate.reject(failure("UDP port 7948 is taken"));
  await expect(asked).rejects.toMatchObject({ message: "UDP port 7948 is taken" });
  await reached("cannot-run");
  expect(life.agent()).toBeUndefined();
  expect(told.slice(0, 2)).toEqual(["agent 1 start", "agent 1 stop letGo"]);
});

test("a member whose files cannot be read can leave: kernel and engine are cleared without an agent", async () => {
  const script: Script = { member: true, read: () => Promise.reject(failure("damaged")) };
  const { life, told, reached } = begin(script);
  await reached("cannot-run");
  await life.end("forgotten", FORCE);
  expect(told).toEqual(["hold", "withdraw without an agent", "clear", "forget"]);
  expect(life.life().state).toBe("not-joined");
});

test("what an end before holds for containers that run on, the next does not let go", async () => {
  const { life, told, reached } = begin({ member: true, held: true });
  await reached("member");
  await life.end("forgotten", FORCE);
  expect(told).toContain("clear, but hold");
});

test.each([
  ["has ports of containers", ["app"]],
  ["cannot be asked", null],
])("what the engine does not name and the kernel %s, is held all the same", async (_, busy) => {
  const { life, told, reached } = begin({ member: true, busy });
  await reached("member");
  await life.end("forgotten", FORCE);
  expect(told).toContain("clear, but hold");
});

test("a host that withdrew is a member, and can leave", async () => {
  const script: Script = { member: true };
  const { life, told, reached } = begin(script);
  await reached("member");
  await life.end("kept", FORCE);
  expect(life.life().state).toBe("withdrawn");
  expect(script.member).toBe(true);
  await life.end("kept", FORCE);
  await expect(life.member()).rejects.toThrow(/has withdrawn/);
  await life.end("forgotten", FORCE);
  expect(script.member).toBe(false);
  expect(told.slice(2)).toEqual([
    "hold",
    "agent 1 withdraw",
    "agent 1 stop letGo",
    "clear",
    "hold",
    "withdraw without an agent",
    "clear",
    "forget",
  ]);
});

test("what is left is told, and the host is what it was: it can leave again", async () => {
  const script: Script = { member: true };
  script.clear = () => Promise.reject(failure("a namespace is left"));
  const { life, told, reached } = begin(script);
  await reached("member");
  await expect(life.end("forgotten", FORCE)).rejects.toThrow("a namespace is left");
  await reached("member");
  expect(told).not.toContain("forget");
  delete script.clear;
  expect(await life.end("forgotten", FORCE)).toEqual({ cutOff: [], stays: ["a view"] });
  expect(life.life().state).toBe("not-joined");
});

test("a member that cannot take part any more is stopped, its things stay, and it is tried again", async () => {
  const script: Script = { member: true };
  const { told, states, reached } = begin(script);
  await reached("member");
  script.cannotRun?.({ code: "UNREACHABLE", message: "the address is gone", next: "join again" });
  await expect.poll(() => told.at(-1), { interval: 1 }).toBe("agent 2 serve");
  expect(told).toEqual([
    "agent 1 start",
    "agent 1 serve",
    "agent 1 stop handOver",
    "agent 2 start",
    "agent 2 serve",
  ]);
  expect(states).toContain("cannot-run");
});

test("told to leave while it starts, it leaves when it has", async () => {
  const gate = Promise.withResolvers<void>();
  const script: Script = { member: true, start: () => gate.promise };
  const { life } = begin(script);
  const left = life.end("forgotten", FORCE);
  gate.resolve();
  await left;
  expect(script.member).toBe(false);
});

test("a process that ends answers who waits, and hands over", async () => {
  const { life, told, reached, stop } = begin({ member: true });
  await reached("member");
  await stop();
  expect(told.slice(2)).toEqual(["agent 1 endServing", "drain", "agent 1 stop handOver"]);
  await expect(life.end("forgotten", FORCE)).rejects.toThrow(/stopping/);
});

test("nobody is cut off without being asked: not by an agent, and not where none runs", async () => {
  const script: Script = { member: true, busy: ["app"] };
  const { life, told, reached } = begin(script);
  await reached("member");
  const used = { code: "CONFLICT", message: "containers here use app" };
  await expect(life.end("forgotten", { force: false })).rejects.toMatchObject(used);
  script.read = () => Promise.reject(failure("damaged"));
  life.cannotRun({ code: "INVALID", message: "damaged" });
  await reached("cannot-run");
  await expect(life.end("forgotten", { force: false })).rejects.toMatchObject(used);
  expect(told).not.toContain("forget");
  script.busy = [];
  await life.end("forgotten", { force: false });
  expect(script.member).toBe(false);
});

test("while it leaves, Docker gets nothing new, and what it gives back is taken to the end", async () => {
  const gate = Promise.withResolvers<void>();
  const { life, reached } = begin({ member: true, clear: () => gate.promise });
  await reached("member");
  const left = life.end("forgotten", FORCE);
  await reached("ending");
  await expect(life.member()).rejects.toThrow(/is leaving/);
  await expect(life.working()).resolves.toBeUndefined();
  gate.resolve();
  await left;
});

test("an agent that does not stop cleanly is in the log, and the next is made all the same", async () => {
  const script: Script = { member: true, stop: () => Promise.reject(failure("nft is stuck")) };
  const { life, logged, reached } = begin(script);
  await reached("member");
  await life.end("forgotten", FORCE);
  script.member = true;
  await reached("member");
  expect((await life.member()).name).toBe("agent 2");
  expect(logged).toMatchObject([
    { fields: { err: { message: "nft is stuck" } }, message: "the agent did not stop cleanly" },
  ]);
});

test("a host that the cluster has removed leaves like any other, and is told so", async () => {
  const script: Script = { member: true, removed: true };
  const { life, reached } = begin(script);
  await reached("member");
  expect(await life.end("forgotten", FORCE)).toMatchObject({ removed: true });
  expect(life.life().state).toBe("not-joined");
});

describe("what a host in each state answers", () => {
  const damaged = (): Promise<never> => Promise.reject(failure("damaged"));
  const gate = () => Promise.withResolvers<void>();

  /** How each state is reached; what is under way there is let go at the end. */
  const WAYS: Record<Life["state"], (opened: Promise<void>) => Promise<ReturnType<typeof begin>>> =
    {
      "not-joined": async () => begin({ member: false }),
      starting: async (opened) => begin({ member: true, start: () => opened }),
      "cannot-run": async () => {
        const script: Script = { member: true };
        const begun = begin(script, { lookMs: 1, retryMs: 1_000_000 });
        await begun.reached("member");
        script.read = damaged;
        script.cannotRun?.(failure("the address is gone").toFailure());
        return begun;
      },
      member: async () => begin({ member: true }),
      ending: async (opened) => {
        const begun = begin({ member: true, clear: () => opened });
        await begun.reached("member");
        void begun.life.end("forgotten", FORCE);
        return begun;
      },
      withdrawn: async () => {
        const begun = begin({ member: true });
        await begun.reached("member");
        await begun.life.end("kept", FORCE);
        return begun;
      },
      stopping: async () => {
        const begun = begin({ member: true });
        await begun.reached("member");
        await begun.stop();
        return begun;
      },
    };
  /** What gives Docker something, what Docker gives back, and whether `leave` ends it. */
  const ANSWERS: Record<Life["state"], [giving: unknown, takingBack: unknown, left: boolean]> = {
    "not-joined": [/not a member/, /not a member/, false],
    starting: ["agent 1", "agent 1", true],
    "cannot-run": [/the address is gone/, /the address is gone/, true],
    member: ["agent 1", "agent 1", true],
    ending: [/is leaving/, undefined, false],
    withdrawn: [/has withdrawn/, /has withdrawn/, true],
    stopping: [/is stopping/, /is stopping/, false],
  };
  const answered = (asked: Promise<ToldAgent | undefined>): Promise<unknown> =>
    asked.then(
      (agent) => agent?.name,
      (error: unknown) => (error as Error).message,
    );
  const like = (wanted: unknown): unknown =>
    wanted instanceof RegExp ? expect.stringMatching(wanted) : wanted;

  test.each(Object.keys(WAYS) as Life["state"][])("%s", async (state) => {
    const { promise, resolve } = gate();
    const { life, reached } = await WAYS[state](promise);
    await reached(state);
    const [giving, takingBack, leaves] = ANSWERS[state];
    const asked = [answered(life.member()), answered(life.working())];
    if (state === "starting") {
      // Both wait for the agent.
      expect(await Promise.race([...asked, delay(5, "nothing yet")])).toBe("nothing yet");
      resolve();
    }
    expect(await Promise.all(asked)).toEqual([like(giving), like(takingBack)]);
    resolve();
    const left = await life.end("forgotten", FORCE).then(
      () => true,
      () => false,
    );
    expect(left).toBe(leaves);
  });
});
