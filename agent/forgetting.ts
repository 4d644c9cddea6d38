import { claimedAddresses, type Endpoint } from "../shared/documents.ts";
import type { NetworkId } from "../shared/ids.ts";
import type { Bindings } from "./bindings.ts";
import type { Hosting } from "./hosting.ts";
import type { Resolving } from "./resolving.ts";

export interface ForgettingModules {
  readonly hosting: Pick<Hosting, "remove">;
  readonly bindings: Pick<Bindings, "release">;
  readonly resolving: Pick<Resolving, "leave">;
}

/** An endpoint that ended and nobody said so: with it Docker forgot its address, and will not give that back. */
export async function forget(
  { hosting, bindings, resolving }: ForgettingModules,
  network: NetworkId,
  endpoint: Endpoint,
): Promise<void> {
  hosting.remove(network, endpoint.id);
  for (const ip of claimedAddresses(endpoint)) bindings.release(network, ip);
  await resolving.leave(endpoint.id);
}

/** The host's own interface is no business of Docker's. */
export function containersOf(endpoints: readonly Endpoint[]): Endpoint[] {
  return endpoints.filter(({ role }) => role !== "host");
}
