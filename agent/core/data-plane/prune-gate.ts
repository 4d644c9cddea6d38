import type { SecurityClass } from "../../shared/cluster-state.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import type { DesiredNetwork } from "./data-plane.ts";
import { desired, type Paths } from "./desired.ts";
import { hostsOn } from "./hosts.ts";
import type { Tables } from "./tables.ts";

/** What a pass over one network needs to know. */
export interface Wanted {
  /** Undefined: nothing of this network belongs on this host. */
  readonly desired: DesiredNetwork | undefined;
  /** What the kernel holds beyond that may be deleted. */
  readonly inSync: boolean;
}

/** What was heard since the agent's start. */
export interface Heard {
  /** That our state is the controller's newest. */
  readonly stateIsFresh: boolean;
  /** What hosts say of themselves was compared with a peer's. */
  readonly hostsInSync: boolean;
  /** One full exchange with a peer of the network was had. */
  readonly inSync: boolean;
}

/** It says so, or has containers there. */
function isOn(tables: Tables, self: NodeId, network: NetworkId): boolean {
  const endpoints = tables.documents(network).get(self)?.endpoints ?? [];
  return endpoints.length > 0 || tables.hosts.get(self)?.hosting.includes(network) === true;
}

/** No host is left that could be asked. */
function isOnlyMember({ state }: Tables, self: NodeId): boolean {
  return state?.nodes.some(({ id }) => id !== self && !state.revoked.includes(id)) === false;
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
  const record = tables.state?.networks.find(({ id }) => id === network);
  const paths = record && pathsOf(record.encryption);
  // What stands of it is closed without our doing, and comes back with its class.
  if (record !== undefined && paths === undefined && isOn(tables, self, network))
    return { desired: undefined, inSync: false };
  const wanted = desired(tables, self, network, paths);
  const known = record !== undefined;
  if (wanted === undefined) return { desired: wanted, inSync: known || heard.stateIsFresh };
  return { desired: wanted, inSync: isComplete(tables, self, network, heard) };
}

/**
 * All that others say of the network was had: from a host that is on it, or it was asked who is, and nobody
 * else is. Not to have heard of anybody is no answer to that.
 */
export function isComplete(
  tables: Tables,
  self: NodeId,
  network: NetworkId,
  heard: Heard,
): boolean {
  const alone = !hostsOn(tables.hosts, network).some((host) => host !== self);
  const asked = heard.hostsInSync || (heard.stateIsFresh && isOnlyMember(tables, self));
  return asked && (alone || heard.inSync);
}
