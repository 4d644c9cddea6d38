import { type Cidr, cidrContainsCidr } from "../../../shared/ip.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Tables } from "../tables/tables.ts";

/**
 * Subnets of the encrypted and internal networks that this host is on. A container reaches them by its own
 * interface, or not at all: one that lost it would send by its default route, in clear.
 */
export function sealedSubnets(tables: Tables, self: NodeId): Cidr[] {
  const hosting = new Set(tables.hosts.get(self)?.hosting);
  const networks = (tables.state?.networks ?? []).filter(
    ({ id, encryption, internal }) =>
      (encryption !== "none" || internal) &&
      (hosting.has(id) || (tables.documents(id).get(self)?.endpoints ?? []).length > 0),
  );
  return outermost(networks.flatMap(({ subnets }) => subnets.map(({ subnet }) => subnet)));
}

/** Without those that lie in another, sorted: no two overlap. */
export function outermost(subnets: readonly Cidr[]): Cidr[] {
  const all = [...new Set(subnets)].toSorted();
  return all.filter((inner) =>
    all.every((outer) => outer === inner || !cidrContainsCidr(outer, inner)),
  );
}
