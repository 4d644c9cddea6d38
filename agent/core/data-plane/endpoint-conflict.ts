import type { NetworkRecord } from "../../../shared/cluster-state.ts";
import { claimedAddresses, type Endpoint } from "../../../shared/documents.ts";
import { OverlayError } from "../../../shared/errors.ts";
import type { Ip } from "../../../shared/ip.ts";
import { derivedMacs, type Mac, ruleMac } from "../../../shared/mac.ts";
import { derivesMac } from "./claims.ts";
import type { Reading } from "./read-network.ts";

/** Docker's own IPAM offers its lowest free address, the same again and again. */
export const ANOTHER_ADDRESS =
  "choose another --ip, or none; if Docker's own IPAM chose it, the network is full on this host: start the container on another one, or make networks with --ipam-driver overlay-ts";

/**
 * The MAC of a new endpoint that chose none: of the two that its address derives the one that no container
 * has, so that one which keeps the MAC of an address it had before loses nothing.
 */
export function freeMac(
  ip: Ip,
  own: readonly Endpoint[],
  { holders }: Pick<Reading, "holders">,
): Mac {
  const macs = new Set([...own, ...holders.map(({ endpoint }) => endpoint)].map(({ mac }) => mac));
  const [first, spare] = derivedMacs(ip);
  return macs.has(first) && !macs.has(spare) ? spare : first;
}

/**
 * What keeps a new endpoint from a network: it is there with another address, or its address or MAC
 * is another container's. `own`: this host's endpoints, whatever others think of them; `reading`:
 * everybody's that hold. Undefined: nothing.
 */
export function clashOf(
  { subnets }: Pick<NetworkRecord, "subnets">,
  endpoint: Endpoint,
  own: readonly Endpoint[],
  { holders }: Pick<Reading, "holders">,
): OverlayError | undefined {
  const held = own.find(({ id }) => id === endpoint.id);
  if (held !== undefined && !sameEndpoint(held, endpoint))
    return conflict(
      `endpoint ${endpoint.id.slice(0, 12)} is on this network with ${claimedAddresses(held).join(", ")}`,
      "remove the container, and start it again",
    );
  const here = own.filter(({ id }) => id !== endpoint.id);
  const others = [...here, ...holders.map((holder) => holder.endpoint)].filter(
    ({ id }) => id !== endpoint.id,
  );
  const ips = claimedAddresses(endpoint);
  const taken = ips.find((ip) => others.some((other) => claimedAddresses(other).includes(ip)));
  if (taken !== undefined)
    return conflict(`${taken} is another container's on this network`, ANOTHER_ADDRESS);
  // What its address derives is its own, whoever elsewhere claims it; two ports of a bridge cannot share one.
  const rivals = derivesMac(endpoint) ? here : others;
  if (rivals.some(({ mac }) => mac === endpoint.mac))
    return conflict(
      `the MAC address ${endpoint.mac} is another container's on this network`,
      "choose another --mac-address, or none; see `overlay-ts endpoint ls` for who has it",
    );
  if (subnets.some(({ gateway }) => ruleMac(gateway) === endpoint.mac))
    return conflict(
      `the MAC address ${endpoint.mac} is the gateway's of this network`,
      "choose another --mac-address, or none",
    );
  return undefined;
}

/** A call that Docker repeats. */
export function sameEndpoint(a: Endpoint, b: Endpoint): boolean {
  return a.id === b.id && a.mac === b.mac && a.ipv4 === b.ipv4 && a.ipv6 === b.ipv6;
}

function conflict(message: string, next: string): OverlayError {
  return new OverlayError({ code: "CONFLICT", message, next });
}
