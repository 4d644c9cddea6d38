import type { NetworkRecord } from "../../shared/cluster-state.ts";
import { EndpointId } from "../../shared/ids.ts";
import { familyOf } from "../../shared/ip.ts";
import { HEALTH, type Live, reaches } from "./truth-names.ts";
import type { SimAgent } from "./sim-agent.ts";
import type { World } from "./world.ts";

const NO_HOLDER = EndpointId.parse("f".repeat(64));

/** Who is behind the virtual addresses of a network for those who dial them here, and what their names answer, when all is quiet. */
export function checkServices(
  world: World,
  { host, balancing, nameServer }: SimAgent,
  record: NetworkRecord,
  live: readonly Live[],
  note: (text: string) => void,
): void {
  const at = `h${host.k} on ${record.name}`;
  const vips = (world.controller.record.state.vips ?? []).filter(
    ({ network }) => network === record.id,
  );
  const dials = [...host.containers.values()].some(({ network }) => network === record.id);
  const told = balancing.told.get(record.id) ?? [];
  const [is, should] = [told.map(({ name }) => name), dials ? vips.map(({ name }) => name) : []];
  if (is.join() !== should.toSorted().join())
    note(`${at}: services ${is.join(" ")}, should be ${should.join(" ")}`);
  const stateOf = ({ host: owner, out }: Live): string => {
    if (owner !== host && !reaches(world, host, owner)) return "unreachable";
    const passed = record.unhealthyNames === "include" && HEALTH.includes(out ?? "");
    return out === undefined || passed ? "ready" : "draining";
  };
  for (const { name, members, gone } of told) {
    const held = members.map(({ ipv4, ipv6, state }) => `${ipv4} ${ipv6} ${state}`);
    const holders = live.filter(({ names }) => names.includes(name));
    const meant = holders.map((one) => {
      const [ipv4, ipv6] = ([4, 6] as const).map((family) =>
        one.ips.find((ip) => familyOf(ip) === family),
      );
      return `${ipv4} ${ipv6} ${stateOf(one)}`;
    });
    if (held.toSorted().join() !== meant.toSorted().join())
      note(`${at}: behind ${name} are ${held.join(", ")}, should be ${meant.join(", ")}`);
    const back = gone.find(({ ipv4 }) => live.some(({ ips }) => ipv4 && ips.includes(ipv4)));
    if (back !== undefined) note(`${at}: ${back.ipv4} is gone from ${name}, and somebody has it`);
  }
  for (const { name, ips } of dials ? vips : [])
    for (const ip of ips) {
      const asking = [{ network: record.id, endpoint: NO_HOLDER, vips: new Set(ips) }];
      const found = nameServer.table.find(asking, name, familyOf(ip));
      if (found?.ips.join() !== ip) note(`${at}: ${name} is ${found?.ips.join()}, should be ${ip}`);
    }
}
