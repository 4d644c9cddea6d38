import { LEFT_TABLE, leftTable } from "./guard-rules.ts";
import { elementsOf } from "./guard-sets.ts";
import { type Nft, rulesOf } from "./nft.ts";

const MONITOR_AGAIN_MS = 1000;

/**
 * What stays on a host that left while containers run (`guard-rules.ts`), put back when somebody takes it away. No
 * agent works then, and nothing but the table says what is in it: it is remembered while it stands.
 */
export class LeftTable {
  readonly #nft: Nft;
  #kept: { readonly script: string; readonly text: string } | undefined;
  #monitoring: AbortController | undefined;
  #mending: Promise<void> = Promise.resolve();

  constructor(nft: Nft) {
    this.#nft = nft;
  }

  /** Keeps the present rules until the next call. @throws NETLINK */
  async look(): Promise<void> {
    const table = await this.#nft.table("inet", LEFT_TABLE);
    if (table === undefined) return this.letGo();
    this.#kept = { script: leftTable(elementsOf(table)), text: textOf(table) };
    if (this.#monitoring === undefined) this.#monitor((this.#monitoring = new AbortController()));
  }

  /** Nothing is put back any more: it is to go, or to be another one. */
  letGo(): void {
    this.#kept = undefined;
    this.#monitoring?.abort();
    this.#monitoring = undefined;
  }

  #monitor(monitoring: AbortController): void {
    const { signal } = monitoring;
    const onLine = (line: string): void => {
      if (line.includes(` inet ${LEFT_TABLE}`)) this.#mend();
    };
    const again = (): void => {
      if (!signal.aborted) later(() => this.#monitor(monitoring));
    };
    const later = (work: () => void): void => {
      setTimeout(() => {
        if (!signal.aborted) work();
      }, MONITOR_AGAIN_MS).unref();
    };
    this.#nft.monitor(onLine, again, signal);
    // Nobody listened before, nor while the program came up.
    later(() => this.#mend());
  }

  /** Our own writes are told too, and then all is as it should be. What fails is tried with the next news. */
  #mend(): void {
    this.#mending = this.#mending
      .then(async () => {
        const table = await this.#nft.table("inet", LEFT_TABLE);
        const kept = this.#kept;
        if (kept === undefined || (table !== undefined && textOf(table) === kept.text)) return;
        await this.#nft.apply(kept.script, "what is left");
      })
      .catch(() => {});
  }
}

function textOf(table: readonly unknown[]): string {
  const { sealed, sealed6 } = elementsOf(table);
  return JSON.stringify([sealed.toSorted(), sealed6.toSorted(), rulesOf(table)]);
}
