import type { SecurityClass } from "../../../shared/cluster-state.ts";
import type { NetworkId, NodeId } from "../../../shared/ids.ts";
import type { Wanted } from "./kernel-state.ts";
import { desired, type Paths } from "./desired-network.ts";
import { admittedHosts } from "../tables/admitted.ts";
import { recordOf } from "../../../shared/records.ts";
import { hostsOn, isUsedHere } from "../tables/hosts.ts";
import type { Tables } from "../tables/tables.ts";

/** What was heard since the agent's start. */
export interface Heard {
  /** That our state is the controller's newest. */
  readonly stateIsFresh: boolean;
  /** What hosts say of themselves was compared with a peer's. */
  readonly hostsInSync: boolean;
  /** One full exchange with a peer of the network was had. */
  readonly inSync: boolean;
}

/** No host is left that could be asked. */
function isOnlyMember({ state }: Tables, self: NodeId): boolean {
  return state !== undefined && admittedHosts(state).every(({ id }) => id === self);
}

/**
 * What the kernel should hold of the network, and whether what it should not may go. That this host is
 * not on a network, no peer needs to say; that there is no such network, or who else is on it, one must.
 *
 * @param pathsOf of a class of encryption; undefined: it does not work here now.
 */
export function wantedNetwork(
  tables: Tables,
  self: NodeId,
  network: NetworkId,
  pathsOf: (encryption: SecurityClass) => Paths | undefined,
  heard: Heard,
): Wanted {
  const record = recordOf(tables.state, network);
  const paths = record && pathsOf(record.encryption);
  // What stands of it is closed without our doing, and comes back with its class.
  if (record !== undefined && paths === undefined && isUsedHere(tables, self, network))
    return { kind: "keep" };
  const wanted = desired(tables, self, network, paths);
  if (wanted !== undefined)
    return { kind: "present", desired: wanted, prune: isComplete(tables, self, network, heard) };
  const isKnown = record !== undefined || heard.stateIsFresh;
  return { kind: isKnown ? "absent" : "keep" };
}

/**
 * All that others say of the network was had: from a host that is on it, or it was asked who is, and nobody
 * else is. Silence is not agreement.
 */
export function isComplete(
  tables: Tables,
  self: NodeId,
  network: NetworkId,
  heard: Heard,
): boolean {
  return wasAsked(tables, self, heard) && (!othersOn(tables, self, network) || heard.inSync);
}

/** It was asked who is on the network, and nobody else is: there is nothing to be had. */
export function isAlone(tables: Tables, self: NodeId, network: NetworkId, heard: Heard): boolean {
  return wasAsked(tables, self, heard) && !othersOn(tables, self, network);
}

/** Who is on which network: a peer, or there is none to ask. */
function wasAsked(tables: Tables, self: NodeId, heard: Heard): boolean {
  return heard.hostsInSync || (heard.stateIsFresh && isOnlyMember(tables, self));
}

function othersOn({ hosts }: Tables, self: NodeId, network: NetworkId): boolean {
  return hostsOn(hosts, network).some((host) => host !== self);
}
