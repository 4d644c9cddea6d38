import type { Attached } from "../../agent/core/names/name-table.ts";
import type { Holder } from "../../agent/core/names/names.ts";
import type { TableChange } from "../../agent/names/server/port.ts";
import { EndpointId, NetworkId } from "../../shared/ids.ts";
import { Ip } from "../../shared/ip.ts";
import { nodeId } from "./cluster.ts";

/** Networks and holders of names, for tests. */

export const net = (k: number): NetworkId => NetworkId.parse(k.toString(16).padStart(32, "0"));

/** Who asks there, and is no holder of names unless a test makes it one. */
export const on = (
  k: number,
  own = 0xffff,
  links: Readonly<Record<string, string>> = {},
): Attached => ({
  network: net(k),
  endpoint: endpointId(own),
  ...(Object.keys(links).length === 0 ? {} : { links: new Map(Object.entries(links)) }),
});

const endpointId = (k: number): EndpointId => EndpointId.parse(k.toString(16).padStart(8, "0"));

export function holder(k: number, names: readonly string[], changes: Partial<Holder> = {}): Holder {
  return {
    endpoint: endpointId(k),
    node: nodeId(1),
    names,
    ips: [Ip.parse(`10.192.${k >> 8}.${k & 255}`)],
    out: undefined,
    ...changes,
  };
}

export const network = (k: number, name: string | undefined, complete = true): TableChange => ({
  kind: "network",
  info: { network: net(k), name, complete },
});

export const holders = (
  k: number,
  put: readonly Holder[],
  remove: readonly EndpointId[] = [],
): TableChange => ({ kind: "holders", network: net(k), put, remove });
