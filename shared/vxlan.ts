/** What VXLAN takes of the underlay's MTU, by its IP version: outer IP, UDP, VXLAN, inner Ethernet (RFC 7348, section 5). */
export const VXLAN_OVERHEAD_BYTES = { 4: 50, 6: 70 } as const;
