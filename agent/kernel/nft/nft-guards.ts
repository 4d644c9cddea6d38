import { Cidr, hostCidr, Ip } from "../../../shared/ip.ts";
import type { DesiredGuards } from "../../core/data-plane/kernel-state.ts";
import { outermost } from "../../core/data-plane/sealed.ts";
import { LEFT_TABLE, leftTable, TABLE, wholeTable, withoutTable } from "./guard-rules.ts";
import {
  elementCount,
  elementsOf,
  GuardElements,
  normalElement,
  scriptOf,
  sealedOf,
  SETS,
} from "./guard-sets.ts";
import { countersOf, Nft, rulesOf } from "./nft.ts";
import type { Guards, GuardWork } from "../port.ts";

/** For so long after a write its own notifications still come. */
const ECHO_MS = 100;

/**
 * What may enter the VXLAN sockets and leave by the host, as one table of the host's namespace. First written whole;
 * then by difference, each in one transaction, so that there is no moment without guards.
 */
export class NftGuards implements Guards {
  readonly #nft: Nft;
  readonly #closing = new AbortController();
  #last: Promise<unknown> = Promise.resolve();
  #writing = 0;
  #quietUntilMs = 0;
  #written: { readonly shape: string; readonly elements: GuardElements } | undefined;
  readonly #work = { read: 0, written: 0, drifts: 0 };
  /** The rules as the kernel gave them back right after they were written. */
  #rules: string | undefined;

  constructor({ hostNetns }: { hostNetns?: string }) {
    this.#nft = new Nft(hostNetns);
  }

  set(desired: DesiredGuards): Promise<void> {
    return this.#inTurn(() => this.#set(desired));
  }

  verify(): Promise<boolean> {
    return this.#inTurn(async () => {
      const holds = await this.#holds();
      // The next `set` then writes all of it.
      if (!holds) this.#written = undefined;
      return holds;
    });
  }

  /** A listing taken while a difference is written is of neither. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work, work);
    this.#last = done;
    return done;
  }

  async #set(desired: DesiredGuards): Promise<void> {
    const shape = shapeOf(desired);
    const held = this.#written;
    if (held?.shape !== shape) return this.#writeWhole(desired, shape);
    const changes = held.elements.changesTo(desired);
    if (changes.size > 0)
      try {
        await this.#quietly(() => this.#nft.change(scriptOf(TABLE, changes), "guards"));
        this.#work.written += elementCount(changes);
      } catch {
        // Somebody changed the sets: what is there is no longer what the difference starts from.
        return this.#writeWhole(desired, shape);
      }
    held.elements.written(desired);
  }

  async #holds(): Promise<boolean> {
    const table = await this.#nft.table("inet", TABLE);
    const listed = elementsOf(table ?? []);
    for (const name of SETS) this.#work.read += listed[name].length;
    if (table === undefined || this.#written === undefined) return false;
    const { elements } = this.#written;
    if (!elements.isWhole()) {
      this.#work.drifts++;
      return false;
    }
    if (rulesOf(table) !== this.#rules) return false;
    return SETS.every((name) => {
      const wanted = elements.of(name).map(normalElement).toSorted();
      return JSON.stringify(listed[name].toSorted()) === JSON.stringify(wanted);
    });
  }

  work(): GuardWork {
    return { ...this.#work };
  }

  async counters(): Promise<Readonly<Record<string, number>>> {
    return countersOf((await this.#nft.table("inet", TABLE)) ?? []);
  }

  /**
   * Told when the table is another than what was written, and that is no longer believed. What we write
   * ourselves is told by the kernel too, on a busy host late: so news are only a reason to compare.
   */
  onTamper(listener: () => void): void {
    let news = false;
    let comparing = false;
    const compare = async (): Promise<void> => {
      if (comparing) return;
      comparing = true;
      while (news && !this.#closing.signal.aborted) {
        news = false;
        if (!(await this.verify().catch(() => false)) && !this.#closing.signal.aborted) listener();
      }
      comparing = false;
    };
    const onLine = (line: string): void => {
      const quiet = this.#writing > 0 || performance.now() < this.#quietUntilMs;
      if (quiet || !line.includes(` inet ${TABLE}`)) return;
      news = true;
      void compare();
    };
    const again = (): void => {
      if (!this.#closing.signal.aborted)
        setTimeout(() => this.#nft.monitor(onLine, again, this.#closing.signal), 1000).unref();
    };
    this.#nft.monitor(onLine, again, this.#closing.signal);
  }

  /** The table stays: the data plane goes on, and so must its guards. */
  close(): Promise<void> {
    this.#closing.abort();
    return Promise.resolve();
  }

  /** What is sealed now stays so in a table of its own, until `remove`. True: there was such a table. */
  async hold(): Promise<boolean> {
    const before = await this.#nft.table("inet", LEFT_TABLE);
    await this.#apply(await this.#left(), "hold");
    return before !== undefined;
  }

  /** For `leave` and tests: nothing of ours stays, or only what is sealed. */
  async remove({ keepSealed = false }: { keepSealed?: boolean } = {}): Promise<void> {
    const left = keepSealed ? await this.#left() : withoutTable(LEFT_TABLE);
    await this.#apply(withoutTable(TABLE) + left, "removal");
    this.#written = undefined;
  }

  async #left(): Promise<string> {
    const sealed = await this.#sealed();
    if (sealed.length === 0) return withoutTable(LEFT_TABLE);
    return leftTable({ sealed: sealedOf(sealed, 4), sealed6: sealedOf(sealed, 6) });
  }

  /** As the kernel has them, those of a time before included. */
  async #sealed(): Promise<Cidr[]> {
    const held: Cidr[] = [];
    for (const name of [TABLE, LEFT_TABLE]) {
      const { sealed, sealed6 } = elementsOf((await this.#nft.table("inet", name)) ?? []);
      for (const text of [...sealed, ...sealed6])
        held.push(text.includes("/") ? Cidr.parse(text) : hostCidr(Ip.parse(text)));
    }
    return outermost(held);
  }

  async #writeWhole(desired: DesiredGuards, shape: string): Promise<void> {
    this.#written = undefined;
    const elements = new GuardElements(desired);
    const sets = elements.all();
    await this.#apply(wholeTable(desired, sets), "guards");
    for (const name of SETS) this.#work.written += sets[name].length;
    this.#written = { shape, elements };
    const table = await this.#nft.table("inet", TABLE);
    this.#rules = table === undefined ? undefined : rulesOf(table);
  }

  #apply(script: string, op: string): Promise<void> {
    return this.#quietly(() => this.#nft.apply(script, op));
  }

  /** What the kernel tells of it is no news. */
  async #quietly(write: () => Promise<void>): Promise<void> {
    this.#writing++;
    try {
      await write();
    } finally {
      this.#writing--;
      this.#quietUntilMs = performance.now() + ECHO_MS;
    }
  }
}

/** What is not in sets: another one is another table. */
function shapeOf({ underlayFamily, classPorts, meshPorts, ipsec }: DesiredGuards): string {
  return JSON.stringify([underlayFamily, classPorts, meshPorts, ipsec]);
}
