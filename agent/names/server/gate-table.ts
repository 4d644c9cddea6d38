import { DNS_PORT, RESOLVER_ADDRESS } from "./reinjection.ts";

/** The one nft table that we have in a container's namespace; its name says that it is ours. */
export const GATE_TABLE = "ip overlay_ts_dns";

/**
 * The gate. Docker's own rules (nat, OUTPUT) have changed the port already, so the first chain asks
 * conntrack for the one the client meant; `tproxy` then gives the packet to the socket on our port
 * if there is one and it is transparent, and lets it go on to Docker's resolver if not. The second
 * chain makes our UDP answer look as if it came from port 53; over TCP conntrack does.
 *
 * By the interface's name: for its index (`iif`) libnftables asks the kernel for all of them, and ends the process, of which
 * this thread is one, when it cannot (iface_cache_update of nftables' src/iface.c).
 */
export function gateTable(port: number, mark: number): string {
  const divert = (protocol: string): string =>
    [
      `iifname "lo" ip daddr ${RESOLVER_ADDRESS} meta l4proto ${protocol}`,
      `ct original ip daddr ${RESOLVER_ADDRESS} ct original proto-dst ${DNS_PORT}`,
      `meta mark != ${mark} tproxy to ${RESOLVER_ADDRESS}:${port}`,
    ].join(" ");
  return [
    `table ${GATE_TABLE} {`,
    "chain questions {",
    // Mangle: after conntrack, which the rules ask.
    "type filter hook prerouting priority -150; policy accept;",
    divert("udp"),
    divert("tcp"),
    "}",
    "chain answers {",
    // Raw: before conntrack, which would not know the answer.
    "type filter hook output priority -300; policy accept;",
    `ip saddr ${RESOLVER_ADDRESS} udp sport ${port} notrack udp sport set ${DNS_PORT}`,
    "}",
    "}",
    "",
  ].join("\n");
}

/** The table as nft lists it leads to this port: with each rule, and each once. */
export function leadsTo(listed: string, port: number): boolean {
  const diverts = listed.match(
    new RegExp(`iifname .* tproxy to ${RESOLVER_ADDRESS.replaceAll(".", "\\.")}:${port}$`, "gm"),
  );
  const returns = listed.match(new RegExp(` udp sport ${port} notrack udp sport set `, "g"));
  const rules = listed.match(/^.*\b(tproxy|notrack)\b.*$/gm);
  return diverts?.length === 2 && returns?.length === 1 && rules?.length === 3;
}
