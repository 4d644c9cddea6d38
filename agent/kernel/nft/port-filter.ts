import { type LocalPort, PORT_LINKS, portLink } from "../../core/data-plane/kernel-state.ts";
import { Nft, rulesOf } from "./nft.ts";
import {
  type Element as Speaker,
  elementOf,
  elementsOf,
  portRules,
  type RoutedPort,
  routedIn,
  routedPort,
  statements,
  TO_BRIDGE,
} from "./port-rules.ts";

const TABLE = "overlay_ts";

const RULES = portRules(TABLE, `iifname "${PORT_LINKS}*"`, {
  sets: ["routed { type ifname; }"],
  chains: TO_BRIDGE,
});

type Element = Speaker | RoutedPort;

interface Held {
  readonly elements: Map<string, Element>;
  /** Chains and rules are those that we write. */
  readonly rulesHold: boolean;
}

/**
 * No container speaks for another: in its network's namespace a bridge table lets in from a
 * container's port only frames with its own MAC and IP, ARP of them, and neighbour advertisements
 * for them. Router advertisements, DHCP offers and every other ethertype go nowhere.
 */
export class PortFilter {
  readonly #nft: Nft;
  /** The table's contents, or the reading under way; undefined: not read yet. */
  #held: Promise<Held> | undefined;

  constructor(netns: string) {
    this.#nft = new Nft(netns);
  }

  /** With the network's devices: the table, with the elements it had. */
  async extend(): Promise<void> {
    await this.#write([...(await this.#read()).elements.values()]);
  }

  /**
   * Before the ports count as complete; what these, and ports that are no longer among `links`, had
   * before goes with it. One run of nft for all.
   */
  async put(ports: readonly LocalPort[], links: ReadonlySet<string>): Promise<void> {
    const { elements: held } = await this.#read();
    const own = byText(ports.flatMap((port) => this.#of(port)));
    const names = new Set(ports.map(({ endpoint }) => portLink(endpoint)));
    const wanted = [...own.values()].filter(({ text }) => !held.has(text));
    const stale = [...held.values()].filter(
      ({ port, text }) => !links.has(port) || (names.has(port) && !own.has(text)),
    );
    if (wanted.length === 0 && stale.length === 0) return;
    for (const element of wanted) held.set(element.text, element);
    for (const { text } of stale) held.delete(text);
    try {
      const script = statements(TABLE, "add", wanted) + statements(TABLE, "delete", stale);
      await this.#nft.change(script, "bridge ports");
    } catch {
      // Somebody took the table away, or changed it: written whole.
      await this.#write([...held.values()]);
    }
  }

  async #write(elements: readonly Element[]): Promise<void> {
    try {
      await this.#nft.apply(RULES + statements(TABLE, "add", elements), "bridge rules");
      this.#held = Promise.resolve({ elements: byText(elements), rulesHold: true });
    } catch (error) {
      this.forget();
      throw error;
    }
  }

  /** What only `extend` mends, in words. */
  async faults(): Promise<string[]> {
    const { rulesHold } = await this.#read();
    return rulesHold ? [] : ["the rules of its port filter are not those that were written"];
  }

  /** Those of the ports whose frames are filtered, by what is theirs and no more. */
  async holding<P extends LocalPort>(ports: readonly P[]): Promise<P[]> {
    if (ports.length === 0) return [];
    const { elements: held } = await this.#read();
    const counts = new Map<string, number>();
    for (const { port } of held.values()) counts.set(port, (counts.get(port) ?? 0) + 1);
    return ports.filter((port) => {
      const own = this.#of(port);
      const count = counts.get(portLink(port.endpoint)) ?? 0;
      return count === own.length && own.every(({ text }) => held.has(text));
    });
  }

  /** Links that the table names, whether they are there or not. */
  async ports(): Promise<Set<string>> {
    const { elements } = await this.#read();
    return new Set([...elements.values()].map(({ port }) => port));
  }

  /** The cached contents of the table may be wrong. */
  forget(): void {
    this.#held = undefined;
  }

  /** The host's own port has no way out by the network: the host has one. */
  #of({ endpoint, mac, ips, host }: LocalPort): Element[] {
    const link = portLink(endpoint);
    const routed = host === undefined ? [routedPort(link)] : [];
    return [...ips.map((ip) => elementOf(link, mac, ip)), ...routed];
  }

  /** Asked for by all ports of a network at once it is read once. */
  #read(): Promise<Held> {
    let held = this.#held;
    if (held === undefined) {
      held = this.#readTable().catch((error: unknown) => {
        this.forget();
        throw error;
      });
      this.#held = held;
    }
    return held;
  }

  async #readTable(): Promise<Held> {
    const table = (await this.#nft.table("bridge", TABLE)) ?? [];
    // Not there yet: `extend` writes it.
    if (table.length === 0) return { elements: new Map(), rulesHold: false };
    const rulesHold = rulesOf(table) === (await rulesAsListed(this.#nft));
    return { elements: byText([...elementsOf(table), ...routedIn(table)]), rulesHold };
  }
}

/**
 * The rules as nft gives back those that we write: the same in every namespace, so found once, not read after
 * each write; and a restarted agent knows them without writing.
 */
let form: Promise<string> | undefined;

function rulesAsListed(nft: Nft): Promise<string> {
  form ??= nft
    .form(RULES, "bridge", TABLE)
    .then(rulesOf)
    .catch((error: unknown) => {
      form = undefined;
      throw error;
    });
  return form;
}

function byText(elements: readonly Element[]): Map<string, Element> {
  return new Map(elements.map((element) => [element.text, element]));
}
