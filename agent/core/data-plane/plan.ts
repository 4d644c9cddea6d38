import { type HeldNetwork, samePort, sameShape } from "./held-network.ts";
import {
  type DesiredNetwork,
  portLink,
  type RemoteEntry,
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

  const complete = ({ mac, vtep, ips }: RemoteEntry): boolean =>
    held.vxlanFdb.get(mac) === vtep &&
    held.bridgeFdb.has(mac) &&
    ips.every((ip) => held.neighbours.get(ip) === mac);
  const missing = desired.remotes.filter((remote) => mend || !complete(remote));
  if (missing.length > 0) steps.push({ kind: "putRemotes", remotes: missing });

  const newCopies = mend ? desired.flood : desired.flood.filter((vtep) => !held.flood.has(vtep));
  if (newCopies.length > 0) steps.push({ kind: "putFlood", vteps: newCopies });

  for (const port of desired.ports) {
    const present = held.ports.get(portLink(port.endpoint));
    if (mend || present === undefined || !samePort(present, port))
      steps.push({ kind: "putPort", port });
  }

  // A local port is this host's own to know: no peer is needed to take it away.
  const wantedPorts = new Set(desired.ports.map(({ endpoint }) => portLink(endpoint)));
  for (const link of [...held.ports.keys(), ...held.unfinishedPorts])
    if (!wantedPorts.has(link)) steps.push({ kind: "removePort", link });

  if (prune) {
    const wantedMacs = new Set(desired.remotes.map((remote) => remote.mac));
    const staleFdb = [...held.vxlanFdb].flatMap(([mac, vtep]) =>
      wantedMacs.has(mac) ? [] : [{ mac, vtep }],
    );
    if (staleFdb.length > 0) steps.push({ kind: "removeFdb", entries: staleFdb });
    const wantedIps = new Set(desired.remotes.flatMap((remote) => remote.ips));
    const staleIps = [...held.neighbours.keys()].filter((ip) => !wantedIps.has(ip));
    if (staleIps.length > 0) steps.push({ kind: "removeNeighbours", ips: staleIps });
    const staleCopies = [...held.flood].filter((vtep) => !desired.flood.includes(vtep));
    if (staleCopies.length > 0) steps.push({ kind: "removeFlood", vteps: staleCopies });
  }
  return steps;
}
