import { setImmediate } from "node:timers/promises";
import { asFailure } from "../../../shared/errors.ts";
import { NameTable } from "../../core/names/name-table.ts";
import { applyChanges } from "./apply-changes.ts";
import type { Conversation } from "./conversation.ts";
import type { Counters } from "./counters.ts";
import { adoptGate, type Gate, type KeptSockets, mendGate, openGate, removeTable } from "./gate.ts";
import { namespaceAt } from "../../kernel/netns.ts";
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
/**
 * Most sandboxes end with their last endpoint, table included. To take it away from one that does not
 * costs 15 ms (nfnetlink's close waits for RCU), which nobody's answer should wait for.
 */
const CLEAR_AFTER_MS = 1000;

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
  readonly holdMs: number;
  readonly tell: (message: FromWorker) => void;
}

/** All sandboxes of this host: waited for, served, looked after. In the worker. */
export class Serving {
  readonly #options: ServingOptions;
  readonly #names = new NameTable();
  readonly #held: HeldQuestions;
  readonly #conversations = new Set<Conversation>();
  readonly #places = new Map<SandboxId, Place>();
  /** Whose table is still to be taken away, and how. */
  readonly #clearing = new Map<SandboxId, { timer: NodeJS.Timeout; clear: () => void }>();
  #waiting: NodeJS.Timeout | undefined;
  #check: NodeJS.Timeout | undefined;
  /** Those still to be looked at in this round. */
  #round: SandboxId[] = [];

  constructor(options: ServingOptions) {
    this.#options = options;
    this.#held = new HeldQuestions(options.holdMs);
  }

  change(changes: readonly TableChange[]): void {
    this.#held.changed(applyChanges(this.#names, changes));
  }

  serve(sandbox: Sandbox, kept: KeptSockets | undefined): void {
    const place = this.#places.get(sandbox.id);
    this.#dontClear(sandbox.id);
    if (place?.served !== undefined) {
      place.sandbox = sandbox;
      place.served.sandbox = sandbox;
      // Its networks are others now: what waited may be answered.
      this.#held.changed(new Set(sandbox.scope.map(({ network }) => network)));
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

  /** All now, one a turn: questions wait for one look, not for all. @returns where rules were put back */
  async check(): Promise<SandboxId[]> {
    const mended: SandboxId[] = [];
    for (const [id, place] of this.#places) {
      if (place.served !== undefined && this.#lookAfter(place, place.served)) mended.push(id);
      await setImmediate();
    }
    return mended;
  }

  /** `keep`: the sockets go on collecting questions for whoever has them next. */
  async stop(sockets: "keep" | "close"): Promise<void> {
    clearTimeout(this.#waiting);
    clearTimeout(this.#check);
    for (const { timer, clear } of this.#clearing.values()) {
      clearTimeout(timer);
      clear();
    }
    const places = [...this.#places.values()];
    this.#places.clear();
    this.#held.decideNow();
    await Promise.all(
      places.map(async ({ served }) => {
        await served?.drain(sockets === "close" ? STOP_DRAIN_MS : 0);
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
        // Before it is used: what fails from here on, the main thread closes.
        this.#options.tell({ kind: "gate", id: sandbox.id, sockets: gate.sockets });
        place.served = this.#begin(sandbox, gate);
        place.state = "serving";
        place.problem = undefined;
        this.#checkLater();
        return;
      }
      place.state = "waiting";
      place.nextMs = nowMs + (wait?.everyMs ?? 0);
    } catch (error) {
      counters.count("gatesFailed");
      const { message } = asFailure(error);
      if (place.problem !== message)
        this.#log(
          "warn",
          { sandbox: sandbox.id, err: error },
          "could not lead a container's DNS questions here; Docker's resolver answers them",
        );
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

  #begin(sandbox: Sandbox, gate: Gate): ServedSandbox {
    try {
      return new ServedSandbox(sandbox, gate, {
        names: this.#names,
        held: this.#held,
        conversations: this.#conversations,
        counters: this.#options.counters,
      });
    } catch (error) {
      this.#options.tell({ kind: "closed", id: sandbox.id });
      throw error;
    }
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

  /** @returns true: its rules were not what they should be, and are put back. */
  #lookAfter(place: Place, served: ServedSandbox): boolean {
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
      return false;
    }
    try {
      if (!mendGate(sandbox.path, gate.port)) return false;
      counters.count("gatesPutBack");
      this.#log("warn", { sandbox: sandbox.id }, "a container's DNS rules were put back");
      return true;
    } catch (error) {
      counters.count("gatesFailed");
      this.#log(
        "warn",
        { sandbox: sandbox.id, err: error },
        "could not put a container's DNS rules back; Docker's resolver answers until they are",
      );
      return false;
    }
  }

  /** @param there the namespace: what is asked in it is answered yet, and its table taken away. */
  async #close(served: ServedSandbox, there: boolean): Promise<void> {
    const { sandbox, gate } = served;
    for (const fd of [gate.sockets.udp, gate.sockets.tcp]) setTransparent(fd, false);
    if (there) await served.drain(0);
    served.close();
    if (there) this.#clearLater(sandbox, gate);
    this.#options.tell({ kind: "closed", id: sandbox.id });
  }

  #clearLater(sandbox: Sandbox, gate: Gate): void {
    const clear = (): void => {
      this.#clearing.delete(sandbox.id);
      if (namespaceAt(sandbox.path) !== gate.namespace) return;
      try {
        removeTable(sandbox.path);
      } catch (error) {
        this.#log(
          "warn",
          { sandbox: sandbox.id, err: error },
          "could not remove a container's DNS rules; without our sockets they do nothing",
        );
      }
    };
    this.#dontClear(sandbox.id);
    this.#clearing.set(sandbox.id, { timer: setTimeout(clear, CLEAR_AFTER_MS), clear });
  }

  #dontClear(id: SandboxId): void {
    clearTimeout(this.#clearing.get(id)?.timer);
    this.#clearing.delete(id);
  }

  #say({ sandbox: { id }, state, problem }: Place): void {
    this.#options.tell({ kind: "status", status: { id, state, problem } });
  }

  #log(level: "info" | "warn", fields: Record<string, unknown>, message: string): void {
    this.#options.tell({ kind: "log", level, fields, message });
  }
}
