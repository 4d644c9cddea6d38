import type { BoundPort } from "../../core/data-plane/way-out.ts";
import { Nft, rulesOf } from "./nft.ts";
import { type Element, elementsOf, portRules, statements } from "./port-rules.ts";

/** Beside our own table `inet overlay_ts` in the host's namespace, of another family. */
const TABLE = "overlay_ts_way_out";

const RULES = portRules(TABLE, "iifname @bound", { sets: ["bound { type ifname; }"] });

/** What the ports of docker_gwbridge may speak from: one bridge table of the host's namespace, written whole. */
export class WayOutFilter {
  readonly #nft: Nft;
  #written: readonly BoundPort<Element>[] | undefined;
  /** The rules as nft lists them where nobody else writes. */
  #rules: Promise<string> | undefined;
  #doubted = false;
  #last: Promise<unknown> = Promise.resolve();

  constructor(netns: string | undefined) {
    this.#nft = new Nft(netns);
  }

  /** What an agent before this one left; empty also when it is not there. @throws NETLINK */
  async read(): Promise<BoundPort<Element>[]> {
    const table = (await this.#nft.table("bridge", TABLE)) ?? [];
    const elements = elementsOf(table);
    return boundIn(table).map((port) => ({
      port,
      speakers: elements.filter((element) => element.port === port),
    }));
  }

  /** In one transaction: there is no moment without. Again when what is there may be another. @throws NETLINK */
  put(ports: readonly BoundPort<Element>[]): Promise<void> {
    return this.#inTurn(async () => {
      const doubted = this.#doubted;
      // Before the look: what is told meanwhile is of after it.
      this.#doubted = false;
      const same = this.#written !== undefined && contentFor(this.#written) === contentFor(ports);
      if (same && (!doubted || (await this.#holds()))) return;
      this.#written = undefined;
      await this.#nft.change(scriptOf(ports), "docker_gwbridge's ports");
      this.#written = ports;
    });
  }

  /** Whether the kernel has what was written, nothing written included. @throws NETLINK */
  intact(): Promise<boolean> {
    return this.#inTurn(async () => this.#written === undefined || this.#holds());
  }

  /** Somebody may have changed it. */
  doubt(): void {
    this.#doubted = true;
  }

  /** Gone already is success. @throws NETLINK */
  remove(): Promise<void> {
    return this.#inTurn(async () => {
      this.#written = undefined;
      await this.#nft.apply(
        `table bridge ${TABLE} {}\ndelete table bridge ${TABLE}`,
        "docker_gwbridge's ports",
      );
    });
  }

  /** Rules by what they should be, never by what was found after writing: somebody may have been faster. */
  async #holds(): Promise<boolean> {
    this.#rules ??= this.#nft.form(RULES, "bridge", TABLE).then(rulesOf);
    const rules = await this.#rules.catch((error: unknown) => {
      this.#rules = undefined;
      throw error;
    });
    const table = await this.#nft.smallTable("bridge", TABLE);
    if (table === undefined || rulesOf(table) !== rules) return false;
    return contentOf(boundIn(table), elementsOf(table)) === contentFor(this.#written ?? []);
  }

  /** A listing taken while something is written is of neither. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work, work);
    this.#last = done;
    return done;
  }
}

/** The same for the same ports and elements in another order. */
function contentOf(bound: readonly string[], elements: readonly Element[]): string {
  return JSON.stringify([bound.toSorted(), elements.map(({ text }) => text).toSorted()]);
}

function contentFor(ports: readonly BoundPort<Element>[]): string {
  return contentOf(
    ports.map(({ port }) => port),
    ports.flatMap(({ speakers }) => speakers),
  );
}

function scriptOf(ports: readonly BoundPort<Element>[]): string {
  const names = ports.map(({ port }) => `"${port}"`);
  const speakers = ports.flatMap((port) => port.speakers);
  const bound =
    names.length === 0 ? "" : `add element bridge ${TABLE} bound { ${names.join(", ")} }\n`;
  return RULES + bound + statements(TABLE, "add", speakers);
}

function boundIn(table: readonly unknown[]): string[] {
  return table.flatMap((entry) => {
    const { set } = entry as { set?: { name: string; elem?: string[] } };
    return set?.name === "bound" ? (set.elem ?? []) : [];
  });
}
