import type { EndpointId, NetworkId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";

/**
 * A virtual address and who is behind it, as one host sees it now: what its containers' tables are written from. Equal
 * services are equal values: members in the order of their endpoints, gone ones in the order of their text.
 */
export interface Service {
  readonly network: NetworkId;
  /** Canonical; one label. Unique on its network. */
  readonly name: string;
  /** Of each family that the network has. */
  readonly ipv4: Ip | undefined;
  readonly ipv6: Ip | undefined;
  /** A client container keeps its member for as long as that is ready. */
  readonly sticky: boolean;
  readonly members: readonly ServiceMember[];
  /** Of members whose endpoints ended: what is still connected is reset. None of them is a member's, or anybody's. */
  readonly gone: readonly GoneAddress[];
}

export interface ServiceMember {
  readonly endpoint: EndpointId;
  /** At least one of them. */
  readonly ipv4: Ip | undefined;
  readonly ipv6: Ip | undefined;
  readonly state: MemberState;
}

/**
 * `ready`: gets new connections. `draining`: gets none, and keeps those that it has (it stops, is paused, or its health
 * check fails). `unreachable`: as that, its host being away; what was begun and not answered may go to another member.
 */
export type MemberState = "ready" | "draining" | "unreachable";

export interface GoneAddress {
  readonly ipv4: Ip | undefined;
  readonly ipv6: Ip | undefined;
}
