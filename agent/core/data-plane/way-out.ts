/** Docker's bridge by which containers of all networks reach what is outside. */
export const WAY_OUT = "docker_gwbridge";

/** A MAC and an address, as the bridge's filter writes them. */
export interface Speaker {
  readonly mac: string;
  readonly address: string;
}

/** A port of the bridge, by its link's name, and what its container may speak from. */
export interface BoundPort<S extends Speaker = Speaker> {
  readonly port: string;
  readonly speakers: readonly S[];
}

/**
 * What a port was bound to first it keeps as long as it is there: a container that may (NET_ADMIN) changes its
 * addresses in vain. A new one does not get what another has: it stays without, and speaks to nobody.
 */
export function boundPorts<S extends Speaker>(
  held: readonly BoundPort<S>[],
  found: readonly BoundPort<S>[],
  there: ReadonlySet<string>,
): BoundPort<S>[] {
  const bound = held.filter(({ port }) => there.has(port));
  const names = new Set(bound.map(({ port }) => port));
  for (const { port, speakers } of found) {
    if (names.has(port)) continue;
    const taken = bound.flatMap((other) => other.speakers);
    const free = speakers.filter(
      ({ mac, address }) => !taken.some((one) => one.mac === mac || one.address === address),
    );
    bound.push({ port, speakers: free });
    names.add(port);
  }
  return bound;
}
