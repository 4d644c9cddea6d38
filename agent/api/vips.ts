import { z } from "zod";
import { BOUNDS } from "../../shared/bounds.ts";
import type { VipMaker, VipRecord } from "../../shared/cluster-state.ts";
import type { Ip } from "../../shared/ip.ts";
import { byBody, byQuery } from "../../shared/node/routes.ts";
import type { Routes } from "../../shared/node/unix-http.ts";
import type { AgentParts } from "../agent.ts";
import { withoutVips } from "../core/balancing/serves-vips.ts";
import { vipsOn } from "../core/balancing/vips-on.ts";
import { IN, membersOf } from "../core/names/members.ts";
import { findNetwork, nodeNames } from "./look-up.ts";

export interface VipRow {
  readonly network: string;
  readonly name: string;
  readonly ips: readonly Ip[];
  readonly sticky: boolean;
  readonly madeBy: VipMaker;
  /** Undefined: this host is not on the network, and knows none of its members. */
  readonly members: number | undefined;
  readonly ready: number | undefined;
}

export interface VipList {
  readonly vips: readonly VipRow[];
  /** Hosts of a version before: there the names answer their members. */
  readonly without: readonly string[];
}

const Added = z.object({
  network: z.string(),
  name: z.string().max(BOUNDS.nameLength),
  sticky: z.boolean().default(false),
});

export function vipRoutes(joined: () => AgentParts): Routes {
  return {
    "GET /v1/vips": byQuery(["network"], ({ network }) =>
      Promise.resolve(vipList(joined(), network)),
    ),
    "POST /v1/vips": byBody(Added, async ({ network, name, sticky }): Promise<VipList> => {
      const agent = joined();
      const { id } = findNetwork(agent, network);
      const asked = { network: id, name, sticky, madeBy: "cli" } as const;
      const { vip } = await agent.controller.request({ v: 1, kind: "addVip", ...asked }, "vip");
      return { vips: rowsOf(agent, [vip]), without: hostsWithout(agent) };
    }),
    "DELETE /v1/vips": byQuery(["network", "name"], async ({ network = "", name = "" }) => {
      const agent = joined();
      const { id } = findNetwork(agent, network);
      await agent.controller.request({ v: 1, kind: "removeVip", network: id, name }, "done");
      return { removed: name };
    }),
  };
}

function vipList(agent: AgentParts, network: string | undefined): VipList {
  const { state } = agent.replication.tables;
  const wanted = network === undefined ? undefined : findNetwork(agent, network).id;
  const vips = wanted === undefined ? (state?.vips ?? []) : vipsOn(state, wanted);
  return { vips: rowsOf(agent, vips), without: hostsWithout(agent) };
}

function hostsWithout(agent: AgentParts): string[] {
  return nodeNames(agent, withoutVips(agent.replication.tables));
}

/** By network, then by name. */
function rowsOf(agent: AgentParts, vips: readonly VipRecord[]): VipRow[] {
  const { tables } = agent.replication;
  const rows = [...Map.groupBy(vips, ({ network }) => network)].flatMap(([network, own]) => {
    const record = tables.state?.networks.find(({ id }) => id === network);
    const isHere = record !== undefined && agent.localNetworks.has(network);
    const members = isHere
      ? membersOf(tables, record, agent.reach.lostThrough(record.encryption))
      : undefined;
    return own.map(({ name, ips, sticky, madeBy }) => {
      const held = members?.filter(({ names }) => names.includes(name));
      const ready = held?.filter(({ state }) => state === IN).length;
      const of = record?.name ?? network;
      return { network: of, name, ips, sticky, madeBy, members: held?.length, ready };
    });
  });
  const text = ({ network, name }: VipRow): string => `${network} ${name}`;
  return rows.toSorted((a, b) => (text(a) < text(b) ? -1 : 1));
}
