import {
  type ActualNetwork,
  type DesiredNetwork,
  type DeviceShape,
  type InterfaceAddress,
  type LocalPort,
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
export function plan(actual: ActualNetwork, wanted: Wanted): Step[] {
  switch (wanted.kind) {
    case "keep":
      return [];
    case "absent":
      return actual.present ? [{ kind: "retract" }] : [];
    case "present":
      return planPresent(actual, wanted.desired, wanted.prune);
  }
}

function planPresent(actual: ActualNetwork, desired: DesiredNetwork, prune: boolean): Step[] {
  const steps: Step[] = [];
  // Mended in place: running containers hold the other ends of the ports.
  const mend =
    actual.device === undefined || !sameShape(actual.device, desired) || actual.faults.length > 0;
  if (mend) steps.push({ kind: "extend", desired });

  const vxlan = new Map(actual.vxlanFdb.map(({ mac, vtep }) => [mac, vtep]));
  const bridge = new Set(actual.bridgeFdb);
  const neighbours = new Map(actual.neighbours.map(({ ip, mac }) => [ip, mac]));
  const complete = ({ mac, vtep, ips }: RemoteEntry): boolean =>
    vxlan.get(mac) === vtep && bridge.has(mac) && ips.every((ip) => neighbours.get(ip) === mac);
  const missing = desired.remotes.filter((remote) => mend || !complete(remote));
  if (missing.length > 0) steps.push({ kind: "putRemotes", remotes: missing });

  const newCopies = mend
    ? desired.flood
    : desired.flood.filter((vtep) => !actual.flood.includes(vtep));
  if (newCopies.length > 0) steps.push({ kind: "putFlood", vteps: newCopies });

  const ports = new Map(actual.ports.map((port) => [port.endpoint, port]));
  for (const port of desired.ports) {
    const present = ports.get(port.endpoint);
    if (mend || present === undefined || !samePort(present, port))
      steps.push({ kind: "putPort", port });
  }

  // A local port is this host's own to know: no peer is needed to take it away.
  const wantedPorts = new Set(desired.ports.map(({ endpoint }) => portLink(endpoint)));
  const held = actual.ports.map(({ endpoint }) => portLink(endpoint));
  for (const link of [...held, ...actual.unfinishedPorts])
    if (!wantedPorts.has(link)) steps.push({ kind: "removePort", link });

  if (prune) {
    const wantedMacs = new Set(desired.remotes.map((remote) => remote.mac));
    const staleFdb = actual.vxlanFdb.filter(({ mac }) => !wantedMacs.has(mac));
    if (staleFdb.length > 0) steps.push({ kind: "removeFdb", entries: staleFdb });
    const wantedIps = new Set(desired.remotes.flatMap((remote) => remote.ips));
    const staleIps = actual.neighbours.map(({ ip }) => ip).filter((ip) => !wantedIps.has(ip));
    if (staleIps.length > 0) steps.push({ kind: "removeNeighbours", ips: staleIps });
    const staleCopies = actual.flood.filter((vtep) => !desired.flood.includes(vtep));
    if (staleCopies.length > 0) steps.push({ kind: "removeFlood", vteps: staleCopies });
  }
  return steps;
}

function sameShape(device: DeviceShape, desired: DesiredNetwork): boolean {
  return (
    device.vni === desired.vni &&
    device.udpPort === desired.udpPort &&
    device.localVtep === desired.localVtep &&
    device.mtuBytes === desired.mtuBytes &&
    device.multicast === desired.multicast &&
    addressKey(device.gateways) === addressKey(desired.gateways)
  );
}

function addressKey(addresses: readonly InterfaceAddress[] = []): string {
  return addresses
    .map(({ ip, prefixLength }) => `${ip}/${prefixLength}`)
    .toSorted()
    .join();
}

function samePort(a: LocalPort, b: LocalPort): boolean {
  return (
    a.mac === b.mac &&
    a.ips.toSorted().join() === b.ips.toSorted().join() &&
    addressKey(a.host) === addressKey(b.host)
  );
}
