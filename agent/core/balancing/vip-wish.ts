import type { NetworkRecord, VipMaker } from "../../../shared/cluster-state.ts";
import { canonicalName, isLabel } from "../../../shared/dns-name.ts";
import { SHORT_ID_LENGTH } from "../names/docker-names.ts";
import type { ContainerConnection, ContainerDetails } from "../names/engine-containers.ts";

/** A virtual address that a container asks for, on one of its networks. */
export interface VipWish {
  readonly name: string;
  readonly sticky: boolean;
  readonly madeBy: Exclude<VipMaker, "cli">;
}

type Labelled = Pick<ContainerDetails, "id" | "hostname" | "labels">;
type Aliased = Pick<ContainerConnection, "aliases">;

/**
 * By its label `overlay-ts.vip`: `true`, a name, or `false`; without one by the network's option. `true` is for its service of
 * Compose, else for its first alias. Undefined: none, or there is no such name.
 */
export function vipWish(
  container: Labelled,
  connection: Aliased,
  isForAll: boolean,
): VipWish | undefined {
  const { vip, sticky } = container.labels;
  const name = vip === undefined && !isForAll ? undefined : asked(container, connection);
  if (name === undefined || !isLabel(name)) return undefined;
  const madeBy = vip === undefined ? "network" : "label";
  return { name, sticky: isYes(sticky), madeBy };
}

/** What the label names, the container is found by: on hosts that know of no virtual addresses as well. */
export function labelledNames(container: Labelled, connection: Aliased): string[] {
  const name = container.labels.vip === undefined ? undefined : asked(container, connection);
  return name === undefined ? [] : [name];
}

function asked(
  { id, hostname, labels: { vip = "true", service } }: Labelled,
  { aliases }: Aliased,
): string | undefined {
  if (["false", "0"].includes(vip)) return undefined;
  if (!isYes(vip)) return canonicalName(vip);
  // Engines before 25 have these among the aliases.
  const own = [id.slice(0, SHORT_ID_LENGTH), hostname];
  const first = service ?? aliases.find((alias) => !own.includes(alias));
  return first === undefined ? undefined : canonicalName(first);
}

/** `-o vip=true`: each service of it has a virtual address. */
export function givesAllVips({ driverOptions }: Pick<NetworkRecord, "driverOptions">): boolean {
  return isYes(driverOptions["vip"]);
}

/** As the options of a network. */
function isYes(text: string | undefined): boolean {
  return text !== undefined && ["", "true", "1"].includes(text);
}
