import type { Ip } from "../../../shared/ip.ts";

/** The address that a name in in-addr.arpa (RFC 1035, 3.5) or ip6.arpa (RFC 3596, 2.5) asks for. */
export function reverseName(canonical: string): Ip | undefined {
  if (!canonical.endsWith(".arpa")) return undefined;
  const labels = canonical.split(".").slice(0, -1);
  const tree = labels.pop();
  if (tree === "in-addr") return ip4(labels);
  return tree === "ip6" ? ip6(labels) : undefined;
}

function ip4(labels: string[]): Ip | undefined {
  const right = labels.length === 4 && labels.every((label) => /^(0|[1-9]\d{0,2})$/.test(label));
  if (!right || labels.some((label) => Number(label) > 255)) return undefined;
  return labels.toReversed().join(".") as Ip;
}

function ip6(labels: string[]): Ip | undefined {
  if (labels.length !== 32 || !labels.every((label) => /^[0-9a-f]$/.test(label))) return undefined;
  const digits = labels.toReversed().join("");
  const groups = (digits.match(/.{4}/g) ?? []).map((group) => parseInt(group, 16));
  return spelled(groups) as Ip;
}

/** RFC 5952, 4: the first of the longest runs of zeros, of two at least, becomes `::`. */
function spelled(groups: readonly number[]): string {
  let [start, length] = [0, 1];
  for (let from = 0; from < groups.length; from++) {
    let to = from;
    while (groups[to] === 0) to++;
    if (to - from > length) [start, length] = [from, to - from];
  }
  const text = (part: readonly number[]): string =>
    part.map((group) => group.toString(16)).join(":");
  if (length < 2) return text(groups);
  return `${text(groups.slice(0, start))}::${text(groups.slice(start + length))}`;
}
