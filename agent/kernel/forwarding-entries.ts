import type { Ip } from "../../shared/ip.ts";
import type { Mac } from "../../shared/mac.ts";
import type { ActualNetwork, RemoteEntry } from "../core/data-plane/kernel-state.ts";
import * as neighbour from "./netlink/neighbour.ts";
import type { Request } from "./netlink/socket.ts";
import type { FoundDevices, NetworkDevices } from "./network-devices.ts";

/** Where frames go that are not for this host: entries of `vx0` and `br0`, as requests and back. */

export function putRemotes(
  { bridge, vxlan }: NetworkDevices,
  remotes: readonly RemoteEntry[],
): Request[] {
  return remotes.flatMap(({ mac, vtep, ips }) => [
    neighbour.putFdb(vxlan.index, mac, vtep),
    ...ips.map((ip) => neighbour.putNeighbour(bridge.index, ip, mac)),
  ]);
}

export function removeFdb({ vxlan }: NetworkDevices, macs: readonly Mac[]): Request[] {
  return macs.flatMap((mac) => [
    neighbour.deleteFdb(vxlan.index, mac, "self"),
    neighbour.deleteFdb(vxlan.index, mac, "master"),
  ]);
}

export function removeNeighbours({ bridge }: NetworkDevices, ips: readonly Ip[]): Request[] {
  return ips.map((ip) => neighbour.deleteNeighbour(bridge.index, ip));
}

export function putFlood({ vxlan }: NetworkDevices, vteps: readonly Ip[]): Request[] {
  return vteps.map((vtep) => neighbour.putFlood(vxlan.index, vtep));
}

export function removeFlood({ vxlan }: NetworkDevices, vteps: readonly Ip[]): Request[] {
  return vteps.map((vtep) => neighbour.deleteFlood(vxlan.index, vtep));
}

export type ForwardingEntries = Pick<
  ActualNetwork,
  "vxlanFdb" | "bridgeFdb" | "neighbours" | "flood"
>;

/** Ours among what a namespace holds. */
export function entriesAmong(
  { bridge, vxlan }: FoundDevices,
  fdb: readonly neighbour.Neighbour[],
  neighbours: readonly neighbour.Neighbour[],
): ForwardingEntries {
  const ours = fdb.filter(({ index, extLearned }) => index === vxlan?.index && extLearned);
  const self = ours.filter(({ master }) => !master);
  return {
    vxlanFdb: self.flatMap(({ mac, destination }) =>
      mac !== undefined && destination !== undefined ? [{ mac, vtep: destination }] : [],
    ),
    bridgeFdb: ours.flatMap(({ master, mac }) => (master && mac !== undefined ? [mac] : [])),
    neighbours: neighbours.flatMap(({ index, extLearned, mac, destination }) =>
      index === bridge?.index && extLearned && mac !== undefined && destination !== undefined
        ? [{ ip: destination, mac }]
        : [],
    ),
    flood: self.flatMap(({ flood, destination }) =>
      flood && destination !== undefined ? [destination] : [],
    ),
  };
}
