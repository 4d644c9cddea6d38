import { claimedAddresses, type Endpoint } from "../../shared/documents.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { Reading } from "./desired.ts";

/** Docker's own IPAM offers its lowest free address, the same again and again. */
export const ANOTHER_ADDRESS =
  "choose another --ip, or none; if Docker's own IPAM chose it, the network is full on this host: start the container on another one, or make networks with --ipam-driver overlay-ts";

/**
 * What keeps a new endpoint from a network: it is there with another address, or its address or MAC
 * is another container's. `own`: this host's endpoints, whatever others think of them; `reading`:
 * everybody's that hold. Undefined: nothing.
 */
export function clashOf(
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
  const others = [...own, ...holders.map((holder) => holder.endpoint)].filter(
    ({ id }) => id !== endpoint.id,
  );
  const ips = claimedAddresses(endpoint);
  const taken = ips.find((ip) => others.some((other) => claimedAddresses(other).includes(ip)));
  if (taken !== undefined)
    return conflict(`${taken} is another container's on this network`, ANOTHER_ADDRESS);
  if (others.some(({ mac }) => mac === endpoint.mac))
    return conflict(
      `the MAC address ${endpoint.mac} is another container's on this network`,
      "choose another --mac-address, or none; see `overlay-ts endpoint ls` for who has it",
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
