import fc from "fast-check";
import { expect, test } from "vitest";
import type { ContainerId, EngineContainer } from "../../agent/docker/engine/port.ts";
import type { Endpoint } from "../../shared/documents.ts";
import type { EngineKind } from "../support/engine-root.ts";
import type { FakeOptions } from "../support/fake-engine.ts";
import { NamedHost } from "../support/named-host.ts";

/**
 * Whatever happens to containers, in whatever order events, answers and lists come, and whatever of
 * the events is lost: after one list that is not stale, what is said is what is so.
 */

const CONTAINERS = 3;

type Act =
  | { readonly kind: "act"; readonly container: number; readonly act: number }
  | { readonly kind: "deliver"; readonly count: number }
  | { readonly kind: "answer"; readonly whole: boolean }
  | { readonly kind: "list" | "lose" | "restart" | "crash" };

const acts: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constant("act" as const),
      container: fc.nat(CONTAINERS - 1),
      act: fc.nat(),
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("deliver" as const), count: fc.nat(4) }) },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant("answer" as const), whole: fc.boolean() }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("list" as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constantFrom("lose" as const, "restart" as const, "crash" as const),
    }),
  },
);

/** A question is asked, answered and told of one after another. */
interface Question {
  readonly ask: () => void;
  readonly tell: () => void;
  asked: boolean;
}

class Run {
  readonly #host: NamedHost;
  readonly #ids: (ContainerId | undefined)[] = Array.from({ length: CONTAINERS }, () => undefined);
  readonly #starting = new Set<ContainerId>();
  /** In which of its lives a container was told to stop. */
  readonly #told = new Set<string>();
  #questions: Question[] = [];
  #list: readonly EngineContainer[] | undefined;
  #names = 0;

  constructor(kind: EngineKind) {
    this.#host = new NamedHost(kind);
    for (let k = 0; k < CONTAINERS; k++)
      this.#ids[k] = this.#host.engine.run(`c${++this.#names}`, optionsOf(k));
    this.#host.hold = true;
    this.#host.ask = <T>(question: () => Promise<T>): Promise<T> =>
      new Promise<T>((resolve, reject) => {
        let answer: Promise<T> | undefined;
        const ask = (): void => void (answer ??= question());
        const tell = (): void => void answer?.then(resolve, reject);
        this.#questions.push({ ask, tell, asked: false });
      });
  }

  async step(act: Act): Promise<void> {
    const host = this.#host;
    switch (act.kind) {
      case "act":
        await this.#act(act.container, act.act);
        break;
      case "deliver":
        host.deliver(act.count);
        break;
      case "answer":
        this.#answer(act.whole);
        break;
      case "list":
        // A list is made at one time, and read at another.
        if (this.#list === undefined) this.#list = await host.engine.containers();
        else {
          host.containerWatcher.listed(this.#list);
          this.#list = undefined;
        }
        break;
      case "lose":
        this.#lose();
        break;
      case "restart":
        host.restart();
        this.#lose();
        break;
      case "crash":
        host.engine.crash();
        this.#starting.clear();
        this.#lose();
        break;
    }
    await new Promise(setImmediate);
  }

  /** Everything comes to its end, `heard` or not, and a list is read that is true. */
  async end(heard: boolean): Promise<void> {
    const host = this.#host;
    for (const id of this.#starting) host.engine.endStart(id);
    if (heard) host.deliver();
    else this.#lose();
    host.ask = (question) => question();
    while (this.#questions.length > 0) {
      this.#answer(true);
      await new Promise(setImmediate);
    }
    await host.list();
    await host.quiet();
    host.containerWatcher.stop();
    const expected = await this.#truth();
    for (const endpoint of host.own.values()) {
      const { names, life, out } = expected.get(endpoint.id) ?? {};
      expect({ id: endpoint.id, names: endpoint.names }).toEqual({ id: endpoint.id, names });
      if (endpoint.out !== "stopping" || life === undefined || !this.#told.has(life))
        expect({ names, out: endpoint.out }).toEqual({ names, out });
    }
  }

  /** Of all endpoints of containers that run. */
  async #truth(): Promise<Map<string, { names: string[]; life: string; out: Endpoint["out"] }>> {
    const { engine } = this.#host;
    const found = new Map<string, { names: string[]; life: string; out: Endpoint["out"] }>();
    for (const { id } of await engine.containers()) {
      const { name, connections, state, health, startedAtMs } = (await engine.inspect(id))!;
      const shortId = id.slice(0, 12);
      for (const { endpoint, aliases } of state === "down" ? [] : connections)
        if (endpoint !== undefined)
          found.set(endpoint, {
            names: [...new Set([name, shortId, ...aliases])],
            life: `${id} ${startedAtMs}`,
            out: state === "paused" ? "paused" : health === "healthy" ? undefined : health,
          });
    }
    return found;
  }

  #lose(): void {
    this.#host.held.length = 0;
    this.#host.containerWatcher.happened({ kind: "listening" });
  }

  #answer(whole: boolean): void {
    const [question] = this.#questions;
    if (question === undefined) return;
    if (!question.asked) question.ask();
    if (question.asked || whole) {
      question.tell();
      this.#questions.shift();
    }
    question.asked = true;
  }

  async #act(which: number, choice: number): Promise<void> {
    const { engine } = this.#host;
    const id = this.#ids[which];
    if (id === undefined) {
      this.#ids[which] = engine.create(`c${++this.#names}`, optionsOf(which));
      return;
    }
    const can = this.#starting.has(id)
      ? [true, true, true, false].map((well) => () => this.#started(id, well))
      : await this.#can(which, id);
    can[choice % can.length]?.();
  }

  #started(id: ContainerId, well: boolean): void {
    this.#starting.delete(id);
    if (well) this.#host.engine.endStart(id);
    else this.#host.engine.failStart(id);
  }

  async #can(which: number, id: ContainerId): Promise<(() => void)[]> {
    const { engine } = this.#host;
    const { state, connections, startedAtMs, checked } = (await engine.inspect(id))!;
    const on = connections.some(({ name }) => name === "db");
    const always = [
      () => {
        engine.remove(id);
        this.#ids[which] = undefined;
      },
      () => engine.rename(id, `c${++this.#names}`),
      () => (on ? engine.disconnect(id, "db") : engine.connect(id, "db", [`db${which}`])),
    ];
    if (state === "down") {
      const begin = (): void => {
        this.#starting.add(id);
        engine.beginStart(id);
      };
      return [...always, begin, begin, begin];
    }
    const running = [
      ...always,
      () => engine.end(id),
      () => {
        this.#told.add(`${id} ${startedAtMs}`);
        engine.kill(id, 15);
      },
      () => engine.kill(id, 1),
    ];
    if (state === "paused") return [...running, () => engine.unpause(id)];
    const health = [() => engine.check(id, "healthy"), () => engine.check(id, "unhealthy")];
    return [...running, () => engine.pause(id), ...(checked ? health : [])];
  }
}

/** The first has no health check. */
function optionsOf(which: number): FakeOptions {
  return { checked: which > 0, networks: { app: [`alias${which}`] } };
}

test("any order ends in the truth", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom("20.10" as const, "26.1" as const),
      fc.array(acts, { minLength: 5, maxLength: 50, size: "max" }),
      fc.boolean(),
      async (kind, all, heard) => {
        const run = new Run(kind);
        for (const act of all) await run.step(act);
        await run.end(heard);
      },
    ),
    { numRuns: 100 },
  );
}, 120_000);
