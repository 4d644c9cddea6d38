import { TRANSIT_LINKS } from "../../core/data-plane/transit.ts";

/** Of the host's namespace, beside the guards'. */
export const TABLE = "overlay_ts_egress";

const FROM = `iifname "${TRANSIT_LINKS}*"`;
const TO = `oifname "${TRANSIT_LINKS}*"`;

/**
 * What comes from a transit leaves the host by its own address, and reaches what is outside of it or what the host has
 * published (`ct status dnat`): not another network, and no bridge but those that lead out (`uplinks`), for the others
 * are Docker's and their containers' ports are closed. What conntrack finds invalid or does not track would leave with the
 * transit's address. Behind the guards, which say of VXLAN from a container what it is (`forwarded`).
 */
export function egressRules(uplinks: readonly string[]): string {
  const drop = "counter name unpublished drop";
  const elements =
    uplinks.length === 0 ? "" : `elements = { ${uplinks.map((name) => `"${name}"`).join(", ")} }`;
  return `table inet ${TABLE} {}
delete table inet ${TABLE}
table inet ${TABLE} {
  counter unpublished {}
  counter invalid {}
  set uplinks { type ifname; ${elements} }
  chain forward {
    type filter hook forward priority raw + 10; policy accept;
    ${FROM} jump leaving
    ${TO} jump arriving
  }
  chain leaving {
    ct state { invalid, untracked } counter name invalid drop
    ct state established,related return
    ct status dnat return
    ${TO} ${drop}
    meta oifkind "bridge" oifname != @uplinks ${drop}
  }
  chain arriving {
    ct state established,related return
    ct status dnat return
    ${drop}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat - 1; policy accept;
    ${FROM} masquerade fully-random
  }
}
`;
}

export const NO_EGRESS_RULES = `table inet ${TABLE} {}\ndelete table inet ${TABLE}\n`;
