import type { ClusterState, NetworkRecord } from "./cluster-state.ts";

/** What VXLAN takes of the underlay's MTU, by its IP version: outer IP, UDP, VXLAN, inner Ethernet (RFC 7348, section 5). */
export const VXLAN_OVERHEAD_BYTES = { 4: 50, 6: 70 } as const;

/** The largest MTU that a network can have on a host with this underlay. */
export function largestMtuBytes(
  { underlayFamily }: ClusterState["settings"],
  underlayMtuBytes: number,
): number {
  return underlayMtuBytes - VXLAN_OVERHEAD_BYTES[underlayFamily];
}

/**
 * Networks whose full-size packets the host's underlay cannot carry. Made before it joined: on it they
 * would lose exactly the large packets, in silence, so it does not take part in them.
 */
export function tooLargeFor(
  { networks, settings }: ClusterState,
  underlayMtuBytes: number,
): NetworkRecord[] {
  const largest = largestMtuBytes(settings, underlayMtuBytes);
  return networks.filter(({ mtuBytes }) => mtuBytes > largest);
}
