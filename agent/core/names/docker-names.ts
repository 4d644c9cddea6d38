import { BOUNDS } from "../../../shared/bounds.ts";
import { canonicalName, isName } from "../../../shared/dns-name.ts";
import type { ContainerDetails } from "./engine-containers.ts";

/** Docker's short id is a name too (moby pkg/stringid, TruncateID). */
export const SHORT_ID_LENGTH = 12;

export interface Named {
  readonly names: string[];
  readonly noNames: string[];
  readonly tooMany: string[];
}

/**
 * What a container is found by on one network, its own name first: as Docker's resolver has it
 * (moby daemon/network.go, buildEndpointDNSNames, and before 25 updateNetworkConfig).
 */
export function dockerNames(
  { id, name, hostname }: Pick<ContainerDetails, "id" | "name" | "hostname">,
  aliases: readonly string[],
): Named {
  const own = [name, id.slice(0, SHORT_ID_LENGTH), hostname];
  const all = new Set([...own, ...aliases].filter((text) => text !== "").map(canonicalName));
  const named: Named = { names: [], noNames: [], tooMany: [] };
  let characters = 0;
  for (const name of all)
    if (!isName(name)) named.noNames.push(name);
    else if (
      named.names.length < BOUNDS.endpointNames + BOUNDS.moreEndpointNames &&
      characters + name.length <= BOUNDS.endpointNameCharacters
    ) {
      named.names.push(name);
      characters += name.length;
    } else named.tooMany.push(name);
  return named;
}

/**
 * `<name>:<alias>`, or a name alone (docker/cli opts, ParseLink); of one alias the last, as for Docker's
 * resolver. A container's whole id is as good as its short one, which is a name.
 */
export function linksOf(links: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    links.map((link) => {
      const [name = "", alias = name] = link.split(":");
      const target = /^[0-9a-f]{64}$/.test(name) ? name.slice(0, SHORT_ID_LENGTH) : name;
      return [canonicalName(alias), canonicalName(target)];
    }),
  );
}
