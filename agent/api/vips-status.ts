import type { Balancing, ClientStatus } from "../balancing/port.ts";
import { withoutVips } from "../core/balancing/serves-vips.ts";
import type { Tables } from "../core/tables/tables.ts";
import type { NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";

/** Virtual addresses, for `status`. */
export interface VipsStatus {
  /** In the cluster. */
  readonly vips: number;
  /** Containers here, by how they are served: those of networks without virtual addresses are idle. */
  readonly clients: Readonly<Record<ClientStatus["state"], number>>;
  /** Of a container whose rules are not what they should be. */
  readonly lastProblem: string | undefined;
  /** Hosts of a version before: there the names answer their members. */
  readonly without: readonly NodeId[];
  readonly counters: Readonly<Record<string, number>>;
}

export function vipsStatus(
  balancing: Pick<Balancing, "clients" | "counters">,
  tables: Pick<Tables, "state" | "hosts">,
): VipsStatus {
  const clients = { idle: 0, waiting: 0, served: 0, failed: 0 };
  const all = balancing.clients();
  for (const { state } of all) clients[state]++;
  const failed = all.findLast(({ state }) => state === "failed");
  return {
    vips: tables.state?.vips?.length ?? 0,
    clients,
    lastProblem: failed && (failed.problem ?? "no reason is known"),
    without: withoutVips(tables),
    counters: balancing.counters(),
  };
}

/**
 * What is not as it should be of the rules in containers. `wanted`: the virtual addresses that each should have; `mended`: where
 * rules were put back just now.
 */
export function unservedVips(
  wanted: ReadonlyMap<string, readonly Ip[]>,
  clients: readonly ClientStatus[],
  mended: readonly string[],
): string[] {
  const held = new Map(clients.map((client) => [client.id, client]));
  const put = mended.map(
    (id) => `sandbox ${id}: somebody changed its rules of virtual addresses; they are put back`,
  );
  const missing = [...wanted].flatMap(([id, ips]) => {
    const client = held.get(id);
    const served = new Set((client?.served ?? []).flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]));
    const lacking = ips.filter((ip) => !served.has(ip));
    const why = client?.problem;
    if (lacking.length === 0)
      return client?.state === "failed" ? [`sandbox ${id}: ${why ?? "no reason is known"}`] : [];
    const text = `${lacking.join(", ")} are not served in sandbox ${id}, where the names answer their members`;
    return [why === undefined ? text : `${text}: ${why}`];
  });
  return [...put, ...missing];
}
