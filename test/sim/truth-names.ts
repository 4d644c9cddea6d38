import type { NetworkRecord } from "../../shared/cluster-state.ts";
import { EndpointId } from "../../shared/ids.ts";
import { familyOf, type Ip } from "../../shared/ip.ts";
import type { Mac } from "../../shared/mac.ts";
import { sandboxOf } from "./container.ts";
import type { SimAgent } from "./sim-agent.ts";
import type { SimHost } from "./sim-host.ts";
import type { World } from "./world.ts";

/** One container as everybody should know it. */
export interface Live {
  readonly id: EndpointId;
  readonly host: SimHost;
  readonly ips: readonly Ip[];
  readonly mac: Mac;
  readonly names: readonly string[];
  readonly out: string | undefined;
}

export const HEALTH = ["starting", "unhealthy"];
const NO_HOLDER = EndpointId.parse("f".repeat(64));

/** What who asks on a network is told, when all is quiet. */
export function checkNames(
  world: World,
  { host, nameServer: names }: SimAgent,
  record: NetworkRecord,
  live: readonly Live[],
  note: (text: string) => void,
): void {
  const known = new Map<string, Ip[]>();
  for (const endpoint of live) {
    const reached = endpoint.host === host || reaches(world, host, endpoint.host);
    const passed = record.unhealthyNames === "include" && HEALTH.includes(endpoint.out ?? "");
    const given = reached && (endpoint.out === undefined || passed);
    for (const name of endpoint.names) {
      const ips = known.get(name) ?? [];
      known.set(name, given ? [...ips, ...endpoint.ips] : ips);
    }
  }
  const at = `h${host.k} on ${record.name}`;
  // A container that holds no name there: what others are told.
  const asking = [{ network: record.id, endpoint: NO_HOLDER }];
  for (const [name, ips] of known)
    for (const family of [4, 6] as const) {
      const should = [...new Set(ips)].filter((ip) => familyOf(ip) === family);
      for (const asked of [name, `${name}.${record.name}`]) {
        const found = names.table.find(asking, asked, family);
        const is = found && [...new Set(found.ips)];
        if (is?.toSorted().join() !== should.toSorted().join())
          note(`${at}: ${asked} is ${is?.join(" ")}, should be ${should.join(" ")}`);
      }
    }
  // Of one address a liar can give two names.
  for (const { host: owner, names: own, ips } of live) {
    // None: of a machine that went off between the two words on a container.
    const should = own[0] && `${own[0]}.${record.name}`;
    for (const ip of owner.lies ? [] : ips)
      if (names.table.reverse(asking, ip) !== should)
        note(`${at}: ${ip} is ${names.table.reverse(asking, ip)}, should be ${should}`);
  }
  // What other networks have is not for who asks on this one.
  for (const other of world.hosts)
    for (const { network, names: theirs, ips } of other.containers.values()) {
      if (network === record.id) continue;
      const [own] = theirs;
      if (own !== undefined && !known.has(own) && names.table.find(asking, own, 4))
        note(`${at}: ${own} of another network is answered`);
      if (ips.some((ip) => names.table.reverse(asking, ip) !== undefined))
        note(`${at}: ${ips.join()} of another network has a name`);
    }
  // Names that nobody has had for a while are not the network's any more.
  for (const name of ["nobody", ...world.monitor.namesBefore(record.id)])
    if (!known.has(name) && names.table.find(asking, name, 4) !== undefined)
      note(`${at}: ${name} is known, and nobody has it`);
}

/** Who runs here may ask, on its network and as itself; nobody else. */
export function checkServed(
  { host, nameServer }: SimAgent,
  known: ReadonlySet<string>,
  note: (text: string) => void,
): void {
  const line = (...parts: readonly string[]): string => parts.join(" ");
  const is = [...nameServer.served.values()].flatMap(({ path, scope }) =>
    scope.map(({ network, endpoint }) => line(path, network, endpoint)),
  );
  const should = [...host.containers.values()]
    .filter(({ network }) => known.has(network))
    .map(({ id, network }) => line(sandboxOf(id), network, id));
  if (is.toSorted().join() !== should.toSorted().join())
    note(`h${host.k} serves ${is.join(", ")}, should serve ${should.join(", ")}`);
}

export function reaches(world: World, from: SimHost, to: SimHost): boolean {
  return to.powered && world.network.bothWays(from, to);
}
