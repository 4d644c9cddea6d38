/**
 * A table as nft lists it in JSON (libnftables-json(5)), without what differs between two tables that do the same: handles,
 * and the order in which chains, maps and elements came. The order of a chain's rules counts.
 */
export function tableContent(listed: readonly unknown[]): string {
  const rules = new Map<string, unknown[]>();
  const others: string[] = [];
  for (const entry of listed as readonly Readonly<Record<string, Record<string, unknown>>>[]) {
    const [[kind, value]] = Object.entries(entry) as [[string, Record<string, unknown>]];
    if (kind === "metainfo") continue;
    const { handle: _handle, elem, ...rest } = value;
    if (kind === "rule") {
      const chain = String(rest["chain"]);
      rules.set(chain, [...(rules.get(chain) ?? []), rest]);
    } else {
      const held = Array.isArray(elem) ? elem.map((one) => JSON.stringify(one)).toSorted() : [];
      others.push(JSON.stringify([kind, rest, held]));
    }
  }
  const chains = [...rules].map(([chain, list]) => JSON.stringify(["rules", chain, list]));
  return [...others, ...chains].toSorted().join("\n");
}
