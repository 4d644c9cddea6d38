import { asFailure } from "../../shared/errors.ts";
import { NameTable } from "../core/name-table.ts";
import { applyChanges } from "./apply-changes.ts";
import type { Counters } from "./counters.ts";
import {
  adoptGate,
  type Gate,
  type KeptSockets,
  mendGate,
  namespaceAt,
  openGate,
  removeTable,
} from "./gate.ts";
import { HeldQuestions } from "./held-questions.ts";
import type { Sandbox, SandboxId, SandboxStatus, TableChange } from "./port.ts";
import { ServedSandbox } from "./served-sandbox.ts";
import { setTransparent } from "./sockets.ts";
import type { FromWorker } from "./worker-protocol.ts";

/** Docker mounts the namespace 140-520 ms after Join, on a quiet machine; the race is for those. */
const WAITING: readonly { readonly untilMs: number; readonly everyMs: number }[] = [
  { untilMs: 2000, everyMs: 1 },
  { untilMs: 10_000, everyMs: 10 },
  { untilMs: 60_000, everyMs: 100 },
];
const FAILED_EVERY_MS = 1000;
/** A packet that the kernel has given to the socket, on another processor, arrives. */
const STOP_DRAIN_MS = 20;
const LEAST_CHECK_MS = 10;

interface Place {
  sandbox: Sandbox;
  /** Of an earlier worker or agent; not used yet. */
  kept: KeptSockets | undefined;
  served: ServedSandbox | undefined;
  state: SandboxStatus["state"];
  problem: string | undefined;
  sinceMs: number;
  nextMs: number;
}

export interface ServingOptions {
  readonly counters: Counters;
  readonly checkMs: number;
  readonly tell: (message: FromWorker) => void;
}

/** All sandboxes of this host: waited for, served, looked after. In the worker. */
export class Serving {
  readonly #options: ServingOptions;
  readonly #names = new NameTable();
  readonly #held = new HeldQuestions();
  readonly #places = new Map<SandboxId, Place>();
  #waiting: NodeJS.Timeout | undefined;
  #check: NodeJS.Timeout | undefined;
  /** Those still to be looked at in this round. */
  #round: SandboxId[] = [];

  constructor(options: ServingOptions) {
    this.#options = options;
  }

  change(changes: readonly TableChange[]): void {
    this.#held.changed(applyChanges(this.#names, changes));
  }

  serve(sandbox: Sandbox, kept: KeptSockets | undefined): void {
    const place = this.#places.get(sandbox.id);
    if (place?.served !== undefined) {
      place.sandbox = sandbox;
      place.served.sandbox = sandbox;
      // Its networks are others now: what waited may be answered.
      this.#held.changed(new Set(sandbox.scope));
      return;
    }
    const nowMs = performance.now();
    const made: Place = {
      sandbox,
      kept: place?.kept ?? kept,
      served: undefined,
      state: "waiting",
      problem: undefined,
      sinceMs: nowMs,
      nextMs: nowMs,
    };
    this.#places.set(sandbox.id, made);
    this.#try(made, nowMs);
    this.#say(made);
    this.#schedule();
  }

  async withdraw(id: SandboxId): Promise<void> {
    const place = this.#places.get(id);
    this.#places.delete(id);
    if (place?.served !== undefined) await this.#close(place.served, true);
  }

  /** `keep`: the sockets go on collecting questions for whoever has them next. */
  async stop(sockets: "keep" | "close"): Promise<void> {
    clearTimeout(this.#waiting);
    clearTimeout(this.#check);
    const places = [...this.#places.values()];
    this.#places.clear();
    this.#held.decideNow();
    await Promise.all(
      places.map(async ({ served }) => {
        if (sockets === "close") await served?.drain(STOP_DRAIN_MS);
        served?.close();
      }),
    );
  }

  #try(place: Place, nowMs: number): void {
    const { sandbox } = place;
    const { counters } = this.#options;
    const waitedMs = nowMs - place.sinceMs;
    const wait = WAITING.find(({ untilMs }) => waitedMs < untilMs);
    try {
      const gate = this.#makeGate(place);
      if (gate !== undefined) {
        place.served = new ServedSandbox(sandbox, gate, {
          names: this.#names,
          held: this.#held,
          counters,
        });
        place.state = "serving";
        place.problem = undefined;
        this.#options.tell({ kind: "gate", id: sandbox.id, sockets: gate.sockets });
        this.#checkLater();
        return;
      }
      place.state = "waiting";
      place.nextMs = nowMs + (wait?.everyMs ?? 0);
    } catch (error) {
      counters.count("gatesFailed");
      const { message } = asFailure(error);
      if (place.problem !== message) this.#log("warn", { sandbox: sandbox.id, message }, "no gate");
      place.state = "failed";
      place.problem = message;
      place.nextMs = nowMs + FAILED_EVERY_MS;
    }
    if (wait !== undefined) return;
    // Asked for again it is tried again.
    place.nextMs = Infinity;
    if (place.state === "waiting") {
      counters.count("namespacesGivenUp");
      place.problem = "Docker has made no namespace for it";
    }
    place.state = "failed";
  }

  /** Undefined: its namespace is not there, or not ready. */
  #makeGate(place: Place): Gate | undefined {
    const { path, id } = place.sandbox;
    const { counters, tell } = this.#options;
    if (namespaceAt(path) === undefined) return undefined;
    if (place.kept !== undefined) {
      const adopted = adoptGate(path, place.kept);
      if (adopted === undefined) tell({ kind: "closed", id });
      else counters.count("gatesAdopted");
      place.kept = undefined;
      if (adopted !== undefined) return adopted;
    }
    const made = openGate(path);
    if (made !== undefined) counters.count("gatesMade");
    return made;
  }

  /** One timer for all: each is tried when its time has come. */
  #schedule(): void {
    clearTimeout(this.#waiting);
    let nextMs = Infinity;
    for (const { served, nextMs: own } of this.#places.values())
      if (served === undefined) nextMs = Math.min(nextMs, own);
    if (nextMs === Infinity) return;
    this.#waiting = setTimeout(() => this.#tryWaiting(), Math.max(1, nextMs - performance.now()));
  }

  #tryWaiting(): void {
    for (const place of this.#places.values()) {
      const nowMs = performance.now();
      if (place.served !== undefined || place.nextMs > nowMs) continue;
      const { state } = place;
      this.#try(place, nowMs);
      if (place.state !== state) this.#say(place);
    }
    this.#schedule();
  }

  /** One gate at a time, spread over the round: none waits for the others' check. */
  #checkLater(): void {
    if (this.#check !== undefined) return;
    const everyMs = Math.max(LEAST_CHECK_MS, this.#options.checkMs / this.#places.size);
    this.#check = setTimeout(() => {
      this.#check = undefined;
      if (this.#round.length === 0) this.#round = [...this.#places.keys()];
      const place = this.#places.get(this.#round.pop()!);
      if (place?.served !== undefined) this.#lookAfter(place, place.served);
      if (this.#places.size > 0) this.#checkLater();
    }, everyMs);
  }

  #lookAfter(place: Place, served: ServedSandbox): void {
    const { sandbox } = place;
    const { gate } = served;
    const { counters } = this.#options;
    if (namespaceAt(sandbox.path) !== gate.namespace) {
      counters.count("sandboxesGone");
      this.#log("info", { sandbox: sandbox.id }, "a sandbox is gone");
      void this.#close(served, false);
      place.served = undefined;
      place.nextMs = Infinity;
      place.state = "failed";
      place.problem = "its namespace is gone";
      this.#say(place);
      return;
    }
    try {
      if (!mendGate(sandbox.path, gate.port)) return;
      counters.count("gatesPutBack");
      this.#log("warn", { sandbox: sandbox.id }, "a container's DNS rules were put back");
    } catch (error) {
      counters.count("gatesFailed");
      this.#log("warn", { sandbox: sandbox.id, message: asFailure(error).message }, "no gate");
    }
  }

  /** @param there the namespace: what is asked in it is answered yet, and its table taken away. */
  async #close(served: ServedSandbox, there: boolean): Promise<void> {
    const { sandbox, gate } = served;
    for (const fd of [gate.sockets.udp, gate.sockets.tcp]) setTransparent(fd, false);
    if (there) await served.drain(0);
    if (there && namespaceAt(sandbox.path) === gate.namespace)
      try {
        removeTable(sandbox.path);
      } catch (error) {
        // Without our sockets it does nothing.
        const { message } = asFailure(error);
        this.#log("warn", { sandbox: sandbox.id, message }, "a container's DNS rules stay");
      }
    served.close();
    this.#options.tell({ kind: "closed", id: sandbox.id });
  }

  #say({ sandbox: { id }, state, problem }: Place): void {
    this.#options.tell({ kind: "status", status: { id, state, problem } });
  }

  #log(level: "info" | "warn", fields: Record<string, unknown>, message: string): void {
    this.#options.tell({ kind: "log", level, fields, message });
  }
}
