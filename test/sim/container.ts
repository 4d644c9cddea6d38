import { type Endpoint, familiesOf } from "../../shared/documents.ts";
import type { EndpointId, NetworkId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import type { Mac } from "../../shared/mac.ts";

/** Docker's truth: it runs here, whatever any agent says. */
export interface Container {
  readonly id: EndpointId;
  readonly network: NetworkId;
  readonly ips: readonly Ip[];
  readonly mac: Mac;
  readonly names: readonly string[];
  out: string | undefined;
}

/** As its host says it. */
export function endpointOf({ id, ips, mac, names, out }: Container): Endpoint {
  return { id, ...familiesOf(ips), mac, names: [...names], ...(out === undefined ? {} : { out }) };
}
