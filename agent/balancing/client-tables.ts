import { setImmediate } from "node:timers/promises";
import { asFailure } from "../../shared/errors.ts";
import type { NetworkId } from "../../shared/ids.ts";
import { clientTable } from "../core/balancing/client-table.ts";
import type { Service } from "../core/balancing/service.ts";
import { namespaceAt } from "../kernel/netns.ts";
import type { Counters } from "./counters.ts";
import { NamespaceTable } from "./namespace-table.ts";
import type { Client, ClientStatus, ServedAddress } from "./port.ts";
import { ScratchForms } from "./scratch-forms.ts";
import type { FromWorker } from "./worker-protocol.ts";

/** Docker mounts the namespace 140-520 ms after Join, on a quiet machine; a name answers members until the table is there. */
const WAITING: readonly { readonly untilMs: number; readonly everyMs: number }[] = [
  { untilMs: 2000, everyMs: 5 },
  { untilMs: 10_000, everyMs: 50 },
  { untilMs: 60_000, everyMs: 500 },
];
const FAILED_EVERY_MS = 1000;
/** A packet that met the former rules is known to conntrack by then. */
const AGAIN_MS = 1000;

interface Place {
  client: Client;
  table: NamespaceTable | undefined;
  status: ClientStatus;
  /** Since it is waited for. */
  sinceMs: number;
  /** When it is tried again; infinite: not by itself. */
  nextMs: number;
}

export interface ClientTablesOptions {
  readonly counters: Counters;
  readonly checkMs: number;
  readonly tell: (message: FromWorker) => void;
}

/** All clients of this host: waited for, written, looked after. In the worker. */
export class ClientTables {
  readonly #options: ClientTablesOptions;
  readonly #services = new Map<NetworkId, readonly Service[]>();
  readonly #places = new Map<string, Place>();
  readonly #dirty = new Set<string>();
  readonly #forms = new ScratchForms();
  #passing: Promise<void> | undefined;
  #waiting: NodeJS.Timeout | undefined;
  #check: NodeJS.Timeout | undefined;
  #again: NodeJS.Timeout | undefined;
  /** Whose conntrack is looked at once more. */
  readonly #onceMore = new Set<string>();

  constructor(options: ClientTablesOptions) {
    this.#options = options;
  }

  services(network: NetworkId, services: readonly Service[]): void {
    if (services.length === 0) this.#services.delete(network);
    else this.#services.set(network, services);
    for (const [id, { client }] of this.#places)
      if (client.networks.includes(network)) this.#dirty.add(id);
    this.#begin();
  }

  serve(client: Client): void {
    const { id } = client;
    const place = this.#places.get(id);
    const nowMs = performance.now();
    if (place === undefined) {
      const status: ClientStatus = { id, state: "idle", problem: undefined, served: [] };
      this.#places.set(id, { client, table: undefined, status, sinceMs: nowMs, nextMs: nowMs });
    } else {
      place.client = client;
      if (place.table === undefined) place.sinceMs = nowMs;
    }
    this.#dirty.add(id);
    this.#begin();
    this.#checkLater();
  }

  withdraw(id: string): void {
    const table = this.#places.get(id)?.table;
    this.#places.delete(id);
    this.#dirty.delete(id);
    this.#onceMore.delete(id);
    if (table?.isThere === true) table.remove();
  }

  /** All now, when what was told before is written. @returns where one was put back */
  async check(): Promise<string[]> {
    while (this.#passing !== undefined) await this.#passing;
    return this.#lookAfterAll();
  }

  /** What comes while it runs is another pass's, of all that changed meanwhile. */
  #begin(): void {
    if (this.#passing !== undefined) return;
    this.#passing = this.#pass().finally(() => {
      this.#passing = undefined;
      if (this.#dirty.size > 0) this.#begin();
      else this.#forms.end();
      this.#schedule();
    });
  }

  async #pass(): Promise<void> {
    await setImmediate();
    for (const id of this.#dirty) {
      this.#dirty.delete(id);
      const place = this.#places.get(id);
      if (place === undefined) continue;
      this.#put(place);
      // Messages that came meanwhile are heard: of a withdrawal first of all.
      await setImmediate();
    }
  }

  #put(place: Place): void {
    const { client } = place;
    const services = client.networks.flatMap((network) => this.#services.get(network) ?? []);
    try {
      if (!this.#find(place)) return;
      const table = place.table!;
      const before = table.written;
      const put = table.put(clientTable(services, client.name), this.#forms);
      this.#count(put);
      place.nextMs = Infinity;
      if (table.hasNewlyLeft(before)) this.#endLeftBehind(place, true);
      const idle = table.written === undefined;
      this.#say(place, idle ? "idle" : "served", undefined, idle ? [] : services.map(addressOf));
    } catch (error) {
      this.#failed(place, error);
    }
  }

  /** @returns false: its namespace is not there yet, or no more. */
  #find(place: Place): boolean {
    const { path } = place.client;
    const namespace = namespaceAt(path);
    if (namespace === undefined) {
      this.#waitFor(place);
      return false;
    }
    if (place.table?.namespace !== namespace || place.table.path !== path)
      place.table = new NamespaceTable(path, namespace);
    return true;
  }

  #waitFor(place: Place): void {
    const { counters } = this.#options;
    if (place.table !== undefined) {
      counters.count("clientsGone");
      place.table = undefined;
      place.nextMs = Infinity;
      this.#say(place, "failed", "its namespace is gone", []);
      return;
    }
    const nowMs = performance.now();
    const wait = WAITING.find(({ untilMs }) => nowMs - place.sinceMs < untilMs);
    if (wait !== undefined) {
      place.nextMs = nowMs + wait.everyMs;
      this.#say(place, "waiting", undefined, []);
      return;
    }
    counters.count("namespacesGivenUp");
    place.nextMs = Infinity;
    this.#say(place, "failed", "Docker has made no namespace for it", []);
  }

  #failed(place: Place, error: unknown): void {
    this.#options.counters.count("tablesFailed");
    const { message } = asFailure(error);
    place.nextMs = performance.now() + FAILED_EVERY_MS;
    if (place.status.problem !== message)
      this.#log(
        "warn",
        { sandbox: place.client.id, err: error },
        "could not write a container's virtual addresses; those before stay, and it is tried again",
      );
    this.#say(place, "failed", message, place.status.served);
  }

  #count(put: ReturnType<NamespaceTable["put"]>): void {
    const { counters } = this.#options;
    if (put === "written") counters.count("tablesWritten");
    else if (put === "changed") counters.count("tablesChanged");
    else if (put === "adopted") counters.count("tablesAdopted");
  }

  #endLeftBehind(place: Place, more: boolean): void {
    const { client, table } = place;
    try {
      if (table?.isThere !== true) return;
      this.#options.counters.count("connectionsMoved", table.endLeftBehind());
    } catch (error) {
      this.#log(
        "warn",
        { sandbox: client.id, err: error },
        "could not move a container's connections from members that left; they go on until conntrack forgets them",
      );
      return;
    }
    if (!more) return;
    this.#onceMore.add(client.id);
    if (this.#again !== undefined) return;
    this.#again = setTimeout(() => {
      this.#again = undefined;
      const ids = [...this.#onceMore];
      this.#onceMore.clear();
      for (const id of ids) {
        const later = this.#places.get(id);
        if (later !== undefined) this.#endLeftBehind(later, false);
      }
    }, AGAIN_MS);
  }

  /** One timer for all: each is tried when its time has come. */
  #schedule(): void {
    clearTimeout(this.#waiting);
    let nextMs = Infinity;
    for (const place of this.#places.values()) nextMs = Math.min(nextMs, place.nextMs);
    if (nextMs === Infinity) return;
    this.#waiting = setTimeout(
      () => {
        const nowMs = performance.now();
        for (const [id, place] of this.#places) if (place.nextMs <= nowMs) this.#dirty.add(id);
        this.#begin();
      },
      Math.max(1, nextMs - performance.now()),
    );
  }

  /** All at once: where nobody changed rules it is some microseconds each. */
  #checkLater(): void {
    if (this.#check !== undefined) return;
    this.#check = setTimeout(() => {
      void this.#lookAfterAll().finally(() => {
        this.#check = undefined;
        if (this.#places.size > 0) this.#checkLater();
      });
    }, this.#options.checkMs);
  }

  async #lookAfterAll(): Promise<string[]> {
    const mended: string[] = [];
    for (const [id, place] of this.#places) {
      if (place.table === undefined) continue;
      if (this.#lookAfter(place, place.table)) mended.push(id);
      await setImmediate();
    }
    if (this.#passing === undefined) this.#forms.end();
    return mended;
  }

  #lookAfter(place: Place, table: NamespaceTable): boolean {
    const { id } = place.client;
    if (!table.isThere) {
      this.#dirty.add(id);
      this.#begin();
      return false;
    }
    try {
      if (!table.mend(this.#forms)) return false;
      this.#options.counters.count("tablesPutBack");
      this.#log("warn", { sandbox: id }, "a container's virtual addresses were put back");
      return true;
    } catch (error) {
      this.#failed(place, error);
      this.#schedule();
      return false;
    }
  }

  #say(
    place: Place,
    state: ClientStatus["state"],
    problem: string | undefined,
    served: readonly ServedAddress[],
  ): void {
    const status: ClientStatus = { id: place.client.id, state, problem, served };
    if (JSON.stringify(status) === JSON.stringify(place.status)) return;
    place.status = status;
    this.#options.tell({ kind: "status", status });
  }

  #log(level: "info" | "warn", fields: Record<string, unknown>, message: string): void {
    this.#options.tell({ kind: "log", level, fields, message });
  }
}

function addressOf({ network, name, ipv4, ipv6 }: Service): ServedAddress {
  return { network, name, ipv4, ipv6 };
}
