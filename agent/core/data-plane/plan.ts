import type { Ip } from "../../../shared/ip.ts";
import { type ChangedGroups, changedGroups, changedPart } from "./changed-part.ts";
import { type HeldNetwork, samePort, sameShape } from "./held-network.ts";
import {
  type DesiredNetwork,
  portLink,
  type RemoteEntry,
  type RemoteGroup,
  type Step,
  type Wanted,
} from "./kernel-state.ts";

/**
 * Ordered steps from what is to what should be; empty when they agree. Whatever adds comes first
 * and remotes before ports, so a container's first packet finds its peers; whatever deletes is
 * left out until pruning is allowed: alone or partitioned, what the kernel says stands.
 */
export function plan(held: HeldNetwork, wanted: Wanted): Step[] {
  switch (wanted.kind) {
    case "keep":
      return [];
    case "absent":
      return held.present ? [{ kind: "retract" }] : [];
    case "present":
      return planPresent(held, wanted.desired, wanted.prune);
  }
}

function planPresent(held: HeldNetwork, desired: DesiredNetwork, prune: boolean): Step[] {
  const steps: Step[] = [];
  // Mended in place: running containers hold the other ends of the ports.
  const mend =
    held.device === undefined || !sameShape(held.device, desired) || held.faults.length > 0;
  if (mend) steps.push({ kind: "extend", desired });

  const changed = mend
    ? { before: undefined, after: desired.remotes }
    : changedRemotes(held, desired.remotes);
  const missing = entriesOf(changed.after).filter((remote) => mend || !held.has(remote));
  if (missing.length > 0) steps.push({ kind: "putRemotes", remotes: missing });

  const newCopies = mend ? desired.flood : desired.flood.filter((vtep) => !held.flood.has(vtep));
  if (newCopies.length > 0) steps.push({ kind: "putFlood", vteps: newCopies });

  const ports = mend ? { before: undefined, after: desired.ports } : changedPorts(held, desired);
  for (const port of ports.after) {
    const present = held.ports.get(portLink(port.endpoint));
    if (mend || present === undefined || !samePort(present, port))
      steps.push({ kind: "putPort", port });
  }

  // A local port is this host's own to know: no peer is needed to take it away.
  const wantedPorts = new Set(ports.after.map(({ endpoint }) => portLink(endpoint)));
  const links = ports.before?.map(({ endpoint }) => portLink(endpoint));
  for (const link of [...(links ?? held.ports.keys()), ...held.unfinishedPorts])
    if (!wantedPorts.has(link)) steps.push({ kind: "removePort", link });

  if (prune) {
    const staleFdb = staleEntries(held, changed);
    if (staleFdb.length > 0) steps.push({ kind: "removeFdb", entries: staleFdb });
    const staleIps = staleNeighbours(held, changed);
    if (staleIps.length > 0) steps.push({ kind: "removeNeighbours", ips: staleIps });
    const copies = new Set(desired.flood);
    const staleCopies = [...held.flood].filter((vtep) => !copies.has(vtep));
    if (staleCopies.length > 0) steps.push({ kind: "removeFlood", vteps: staleCopies });
  }
  return steps;
}

/** As `ChangedRemotes`. */
function changedPorts({ agreed }: HeldNetwork, { ports }: DesiredNetwork) {
  return agreed.ports === undefined
    ? { before: undefined, after: ports }
    : changedPart(agreed.ports, ports);
}

/** Those to look for, and those among whose records alone stale ones may be. `before` undefined: among all. */
interface ChangedRemotes {
  readonly before: readonly RemoteGroup[] | undefined;
  readonly after: readonly RemoteGroup[];
}

function changedRemotes(held: HeldNetwork, remotes: readonly RemoteGroup[]): ChangedRemotes {
  const { remotes: agreed } = held.agreed;
  return agreed === undefined
    ? { before: undefined, after: remotes }
    : differentRemotes(agreed, remotes);
}

export function differentRemotes(
  before: readonly RemoteGroup[],
  after: readonly RemoteGroup[],
): ChangedGroups<RemoteGroup> {
  return changedGroups(before, after, (a, b) => a.vtep === b.vtep);
}

/** One by one, as steps have them. */
export function entriesOf(groups: readonly RemoteGroup[]): RemoteEntry[] {
  return groups.flatMap(({ vtep, members }) => members.map(({ mac, ips }) => ({ mac, vtep, ips })));
}

function staleEntries(held: HeldNetwork, { before, after }: ChangedRemotes) {
  const wanted = new Set(entriesOf(after).map(({ mac }) => mac));
  const macs = before && entriesOf(before).map(({ mac }) => mac);
  return [...(macs ?? held.vxlanFdb.keys())].flatMap((mac) => {
    const vtep = wanted.has(mac) ? undefined : held.vxlanFdb.get(mac);
    return vtep === undefined ? [] : [{ mac, vtep }];
  });
}

function staleNeighbours(held: HeldNetwork, { before, after }: ChangedRemotes): Ip[] {
  const wanted = new Set(entriesOf(after).flatMap(({ ips }) => ips));
  const ips = before && entriesOf(before).flatMap((remote) => remote.ips);
  return [...(ips ?? held.neighbours.keys())].filter((ip) => !wanted.has(ip));
}
