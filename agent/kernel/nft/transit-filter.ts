import { familyOf } from "../../../shared/ip.ts";
import { subnetOf } from "../../core/data-plane/inet.ts";
import type { InterfaceAddress, Transit } from "../../core/data-plane/kernel-state.ts";
import { Nft, rulesOf } from "./nft.ts";
import { OF_A_CONTAINER } from "./port-rules.ts";

/** In a network's namespace, beside the port filter's of family bridge. */
const TABLE = "overlay_ts";
const NO_TABLE = `table inet ${TABLE} {}\ndelete table inet ${TABLE}\n`;

/**
 * What a network's namespace forwards: containers' packets from here to the transit, from the network's own address
 * there, and what is answered. Nothing that came by VXLAN: hosts are no routers for each other.
 */
export class TransitFilter {
  readonly #nft: Nft;
  /** As nft lists what we write, by what we write: looked for where nobody else can write. */
  #form: { readonly script: string; readonly rules: Promise<string> } | undefined;

  constructor(netns: string) {
    this.#nft = new Nft(netns);
  }

  /** Before anything is forwarded. @throws NETLINK */
  async put(transit: Transit, gateways: readonly InterfaceAddress[]): Promise<void> {
    await this.#nft.change(rulesFor(transit, gateways), "the way out's rules");
  }

  /** When nothing is forwarded any more. Not there is success. @throws NETLINK */
  async remove(): Promise<void> {
    if ((await this.#nft.smallTable("inet", TABLE)) === undefined) return;
    await this.#nft.change(NO_TABLE, "the way out's rules");
  }

  /** What `put` or `remove` would mend, in words. */
  async faults(
    transit: Transit | undefined,
    gateways: readonly InterfaceAddress[],
  ): Promise<string[]> {
    const table = await this.#nft.smallTable("inet", TABLE);
    const is = table === undefined ? undefined : rulesOf(table);
    const should = transit && (await this.#rules(rulesFor(transit, gateways)));
    return is === should ? [] : ["the rules of its way out are not those that were written"];
  }

  #rules(script: string): Promise<string> {
    if (this.#form?.script !== script)
      this.#form = { script, rules: this.#nft.smallForm(script, "inet", TABLE).then(rulesOf) };
    return this.#form.rules.catch((error: unknown) => {
      this.#form = undefined;
      throw error;
    });
  }
}

/**
 * The connected route leads to the bridge, and an unreachable one behind it to nowhere: that its own subnet goes
 * through the transit takes a route of somebody else's, and is dropped all the same. What conntrack finds invalid, or does
 * not track (messages of neighbour discovery, whoever they are for), would leave with the container's own address.
 */
function rulesFor({ ends }: Transit, gateways: readonly InterfaceAddress[]): string {
  const drop = "counter name notRouted drop";
  const own = gateways.map(({ ip, prefixLength }) => {
    const protocol = familyOf(ip) === 4 ? "ip" : "ip6";
    return `    oifname "tr0" ${protocol} daddr ${subnetOf({ ip, prefixLength })} ${drop}\n`;
  });
  const sources = ends.map(({ inside }) => {
    const [protocol, of] = familyOf(inside) === 4 ? ["ip", "ipv4"] : ["ip6", "ipv6"];
    return `    oifname "tr0" meta nfproto ${of} snat ${protocol} to ${inside} fully-random\n`;
  });
  return `${NO_TABLE}table inet ${TABLE} {
  counter notRouted {}
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state { invalid, untracked } ${drop}
${own.join("")}    iifname "br0" oifname "tr0" meta mark ${OF_A_CONTAINER} accept
    iifname "tr0" oifname "br0" ct state established,related accept
    ${drop}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
${sources.join("")}  }
}
`;
}
