import { claimedAddresses, type Endpoint } from "../../shared/documents.ts";
import type { EndpointId, NetworkId } from "../../shared/ids.ts";
import type { Leases } from "./leases.ts";
import type { LocalNetworks } from "./local-networks.ts";

export interface ForgetEndpointModules {
  readonly localNetworks: Pick<LocalNetworks, "remove">;
  readonly leases: Pick<Leases, "release">;
  /** Of `names/`, a room above this one. */
  readonly nameServerFeed: { leave(endpoint: EndpointId): Promise<void> };
}

/** An endpoint that ended and nobody said so: with it Docker forgot its address, and will not give that back. */
export async function forget(
  { localNetworks, leases, nameServerFeed }: ForgetEndpointModules,
  network: NetworkId,
  endpoint: Endpoint,
): Promise<void> {
  localNetworks.remove(network, endpoint.id);
  for (const ip of claimedAddresses(endpoint)) leases.release(network, ip);
  await nameServerFeed.leave(endpoint.id);
}

/** The host's own interface is no business of Docker's. */
export function containersOf(endpoints: readonly Endpoint[]): Endpoint[] {
  return endpoints.filter(({ role }) => role !== "host");
}
