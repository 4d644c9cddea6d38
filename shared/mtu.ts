import type { ClusterState, NetworkRecord, SecurityClass } from "./cluster-state.ts";
import { largestEspMtuBytes } from "./esp.ts";
import { VXLAN_OVERHEAD_BYTES } from "./vxlan.ts";
import { largestWireguardMtuBytes } from "./wireguard.ts";

/** The largest MTU that a network of the class can have on a host with this underlay. */
export function largestMtuBytes(
  { underlayFamily }: Pick<ClusterState["settings"], "underlayFamily">,
  underlayMtuBytes: number,
  encryption: SecurityClass,
): number {
  switch (encryption) {
    case "none":
      return underlayMtuBytes - VXLAN_OVERHEAD_BYTES[underlayFamily];
    case "wireguard":
      return largestWireguardMtuBytes(underlayFamily, underlayMtuBytes);
    case "ipsec":
      return largestEspMtuBytes(underlayFamily, underlayMtuBytes);
  }
}

/** The smallest underlay that carries the network's full-size packets. */
export function neededUnderlayBytes(
  settings: Pick<ClusterState["settings"], "underlayFamily">,
  { mtuBytes, encryption }: Pick<NetworkRecord, "mtuBytes" | "encryption">,
): number {
  let underlay = mtuBytes;
  while (largestMtuBytes(settings, underlay, encryption) < mtuBytes) underlay++;
  return underlay;
}

/**
 * Networks whose full-size packets the host's underlay cannot carry. Made before it joined: on it they
 * would lose exactly the large packets, in silence, so it does not take part in them.
 */
export function tooLargeFor(
  { networks, settings }: ClusterState,
  underlayMtuBytes: number,
): NetworkRecord[] {
  return networks.filter(
    ({ mtuBytes, encryption }) =>
      mtuBytes > largestMtuBytes(settings, underlayMtuBytes, encryption),
  );
}
