import type { Ip } from "../../../shared/ip.ts";
import { chosenMember } from "./chosen-member.ts";
import type { Service, ServiceMember } from "./service.ts";

/** What becomes of a packet that leaves a client for an address, after the translation. */
export type End =
  /** A virtual address that nothing translated: nobody is there. */
  | "refused"
  /** A member's: passes, unless it is of no connection. */
  | "member"
  /** A member's that ended: what came here by a virtual address is reset. */
  | "gone";

/** What one client's namespace should have: of all services of its networks. */
export interface ClientTable {
  /** By virtual address, in its order: the addresses of the same family that get new connections, each once and in order. */
  readonly services: ReadonlyMap<Ip, readonly Ip[]>;
  readonly ends: ReadonlyMap<Ip, End>;
  readonly left: LeftAddresses;
}

/** Whose entries of conntrack are looked after, besides: new connections do not go there. */
export interface LeftAddresses {
  readonly draining: ReadonlySet<Ip>;
  readonly unreachable: ReadonlySet<Ip>;
  readonly gone: ReadonlySet<Ip>;
}

export const NO_SERVICES: ClientTable = clientTable([], "");

/**
 * @param services of all networks of the client.
 * @param client its name in rendezvous hashes: the same for as long as its sticky services should stay.
 *
 * Two services that claim one virtual address are a fault elsewhere: the first has it.
 */
export function clientTable(services: readonly Service[], client: string): ClientTable {
  const chains: [Ip, readonly Ip[]][] = [];
  const ends = new Map<Ip, End>();
  const left = { draining: new Set<Ip>(), unreachable: new Set<Ip>(), gone: new Set<Ip>() };
  for (const { gone } of services)
    for (const address of gone.flatMap(addressesOf)) {
      ends.set(address, "gone");
      left.gone.add(address);
    }
  for (const { members } of services)
    for (const member of members)
      for (const address of addressesOf(member)) {
        ends.set(address, "member");
        left.gone.delete(address);
        if (member.state !== "ready") left[member.state].add(address);
      }
  for (const service of services)
    for (const family of ["ipv4", "ipv6"] as const) {
      const virtual = service[family];
      if (virtual === undefined || ends.get(virtual) === "refused") continue;
      ends.set(virtual, "refused");
      chains.push([virtual, receivers(service, family, client)]);
    }
  return { services: new Map(chains.toSorted(([a], [b]) => (a < b ? -1 : 1))), ends, left };
}

function receivers(
  { members, sticky }: Service,
  family: "ipv4" | "ipv6",
  client: string,
): readonly Ip[] {
  const ready = members.filter(
    (member) => member.state === "ready" && member[family] !== undefined,
  );
  const chosen = sticky ? chosenMember(client, ready) : undefined;
  const receiving: readonly ServiceMember[] = chosen === undefined ? ready : [chosen];
  return [...new Set(receiving.map((member) => member[family]!))].toSorted();
}

function addressesOf({ ipv4, ipv6 }: { ipv4: Ip | undefined; ipv6: Ip | undefined }): Ip[] {
  return [ipv4, ipv6].filter((address) => address !== undefined);
}
