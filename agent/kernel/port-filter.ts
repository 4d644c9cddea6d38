import type { EndpointId, NetworkId } from "../../shared/ids.ts";
import { familyOf } from "../../shared/ip.ts";
import type { LocalPort } from "../core/data-plane.ts";
import { Nft } from "./nft.ts";

const TABLE = "overlay_ts";

/**
 * No container speaks for another: in each network's namespace a bridge table lets in from a
 * container's port only frames with its own MAC and IP, or ARP of them. Router advertisements,
 * DHCP offers and every other ethertype go nowhere.
 */
export class PortFilter {
  readonly #path: (network: NetworkId) => string;
  readonly #portName: (endpoint: EndpointId) => string;
  /** What the table of a network holds; undefined: not read yet. */
  readonly #held = new Map<NetworkId, Set<string>>();
  /** Elements of ports that are gone: deleted with the next change, not with a process of their own. */
  readonly #stale = new Map<NetworkId, Set<string>>();

  constructor(path: (network: NetworkId) => string, portName: (endpoint: EndpointId) => string) {
    this.#path = path;
    this.#portName = portName;
  }

  /** With the network's devices: the table, with the elements it had. */
  async extend(network: NetworkId): Promise<void> {
    await this.#write(network, [...(await this.#elements(network))]);
  }

  /** Before the port counts as complete. */
  async put(network: NetworkId, port: LocalPort): Promise<void> {
    const held = await this.#elements(network);
    const wanted = this.#of(port).filter((element) => !held.has(element));
    const stale = [...(this.#stale.get(network) ?? [])].filter((element) => held.has(element));
    const removable = stale.filter((element) => !this.#of(port).includes(element));
    const lines = [
      ...(wanted.length === 0
        ? []
        : [`add element bridge ${TABLE} ports { ${wanted.join(", ")} }`]),
      ...(removable.length === 0
        ? []
        : [`delete element bridge ${TABLE} ports { ${removable.join(", ")} }`]),
    ];
    if (lines.length === 0) return;
    for (const element of wanted) held.add(element);
    for (const element of removable) held.delete(element);
    this.#stale.delete(network);
    try {
      await this.#nft(network).apply(lines.join("\n"), "bridge port");
    } catch {
      // Somebody took the table away, or changed it: written whole.
      await this.#write(network, [...held]);
    }
  }

  async #write(network: NetworkId, elements: readonly string[]): Promise<void> {
    const add =
      elements.length === 0 ? "" : `add element bridge ${TABLE} ports { ${elements.join(", ")} }\n`;
    try {
      await this.#nft(network).apply(RULES + add, "bridge rules");
      this.#held.set(network, new Set(elements));
    } catch (error) {
      this.forget(network);
      throw error;
    }
  }

  /** The port's element means nothing without the port, and goes with the next change. */
  async removed(network: NetworkId, endpoint: EndpointId): Promise<void> {
    const prefix = `"${this.#portName(endpoint)}" . `;
    const stale = this.#stale.get(network) ?? new Set();
    for (const element of await this.#elements(network))
      if (element.startsWith(prefix)) stale.add(element);
    this.#stale.set(network, stale);
  }

  async holds(network: NetworkId, port: LocalPort): Promise<boolean> {
    const held = await this.#elements(network);
    return this.#of(port).every((element) => held.has(element));
  }

  /** The namespace is gone, or what is believed of it is no longer sure. */
  forget(network: NetworkId): void {
    this.#held.delete(network);
    this.#stale.delete(network);
  }

  #of({ endpoint, mac, ips }: LocalPort): string[] {
    const name = this.#portName(endpoint);
    return ips.filter((ip) => familyOf(ip) === 4).map((ip) => `"${name}" . ${mac} . ${ip}`);
  }

  async #elements(network: NetworkId): Promise<Set<string>> {
    let held = this.#held.get(network);
    if (held === undefined) {
      held = new Set(elementsOf((await this.#nft(network).table("bridge", TABLE)) ?? []));
      this.#held.set(network, held);
    }
    return held;
  }

  #nft(network: NetworkId): Nft {
    return new Nft(this.#path(network));
  }
}

const RULES = `table bridge ${TABLE} {}
delete table bridge ${TABLE}
table bridge ${TABLE} {
  counter spoofed {}
  set ports { type ifname . ether_addr . ipv4_addr; }
  chain prerouting {
    type filter hook prerouting priority -300; policy accept;
    iifname "ovp*" jump container
  }
  chain container {
    ether type ip udp sport 67 counter name spoofed drop
    ether type ip iifname . ether saddr . ip saddr @ports accept
    ether type arp iifname . arp saddr ether . arp saddr ip @ports accept
    ether type arp arp operation request arp saddr ip 0.0.0.0 accept
    counter name spoofed drop
  }
}
`;

function elementsOf(table: readonly unknown[]): string[] {
  return table.flatMap((entry) => {
    const { set } = entry as { set?: { name: string; elem?: { concat: string[] }[] } };
    if (set?.name !== "ports") return [];
    return (set.elem ?? []).map(({ concat: [name, mac, ip] }) => `"${name}" . ${mac} . ${ip}`);
  });
}
