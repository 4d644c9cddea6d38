import type { VipRow } from "../api/vips.ts";
import type { NameRow } from "../core/names/name-rows.ts";
import { eventLine } from "./event-lines.ts";
import type { Told } from "../events/event-log.ts";
import { callAgent, type Context, followAgent, parseSince } from "./context.ts";
import { type Columns, list, type Listing, type OfNetworkOptions, oneNetwork } from "./listing.ts";
import { progress } from "./output.ts";

/** Commands that show who is found by what name, and what happened to it. */

interface NetworkNames {
  readonly network: string;
  readonly here: boolean;
  readonly hosts: readonly string[];
  readonly names: readonly NameRow[];
  /** Held a moment ago: nobody is given for them. An agent of before has none of these. */
  readonly gone?: readonly string[];
  readonly links?: readonly {
    readonly container: string;
    readonly alias: string;
    readonly target: string;
  }[];
  readonly leftOut?: readonly string[];
  /** Names that have a virtual address. */
  readonly vips?: readonly VipRow[];
}

export interface NamesOptions extends OfNetworkOptions {
  /** Docker's short ids too. */
  readonly all?: boolean;
}

export async function names(
  context: Context,
  given: string | undefined,
  options: NamesOptions,
): Promise<void> {
  const network = oneNetwork(given, options.network);
  const query = network === undefined ? "" : `?network=${encodeURIComponent(network)}`;
  const found = await callAgent<NetworkNames[]>(context, "GET", `/v1/names${query}`);
  list(context, namesListing(found, options.all === true), options);
}

interface Row extends Pick<NameRow, "name" | "ips" | "host" | "container" | "state"> {
  readonly network: NetworkNames;
  /** What the agent said. */
  readonly of: NameRow | VipRow;
}

const COLUMNS: Columns<Row> = {
  NETWORK: ({ network }) => network.network,
  NAME: ({ name }) => name,
  ADDRESS: ({ ips }) => ips.join(",") || "-",
  HOST: ({ host }) => host,
  CONTAINER: ({ container }) => container,
  STATE: ({ state }) => state,
};

export function namesListing(found: readonly NetworkNames[], all: boolean): Listing<Row> {
  const rows = found
    .toSorted((a, b) => (a.network < b.network ? -1 : 1))
    .flatMap((network) => [
      ...(network.vips ?? []).map((of) => ({
        ...of,
        ...VIRTUAL,
        state: readyText(of),
        network,
        of,
      })),
      ...network.names
        .filter(({ shortId }) => all || !shortId)
        .map((of) => ({ ...of, network, of })),
    ]);
  return {
    rows,
    columns: COLUMNS,
    id: "NAME",
    json: (left) => {
      const kept = new Set<NameRow | VipRow>(left.map(({ of }) => of));
      return found.map(({ vips, ...network }) => ({
        ...network,
        names: network.names.filter((of) => kept.has(of)),
        ...(vips === undefined ? {} : { vips: vips.filter((of) => kept.has(of)) }),
      }));
    },
    beside: () => {
      const beside = found.flatMap(besideText);
      return beside.length === 0 ? [] : ["", ...beside];
    },
  };
}

/** Of no host: each translates it for its own containers. */
const VIRTUAL = { host: "-", container: "(virtual)" };

function readyText({ members, ready }: Pick<VipRow, "members" | "ready">): string {
  return members === undefined ? "?" : `${ready}/${members} ready`;
}

/** What is not in the rows, and decides on answers all the same. */
function besideText({
  network,
  here,
  hosts,
  names,
  gone = [],
  links = [],
  leftOut = [],
}: NetworkNames): string[] {
  if (!here) return [notHere({ network, hosts })];
  const held = new Set(names.map(({ name }) => name));
  const left = [...new Set(gone)].filter((name) => !held.has(name)).toSorted();
  return [
    ...links.map(
      ({ container, alias, target }) =>
        `link on ${network}: ${container} finds ${target} as ${alias}`,
    ),
    ...(left.length === 0
      ? []
      : [
          `gone from ${network}, and nobody else is given for up to two minutes: ${left.join(", ")}`,
        ]),
    ...leftOut,
  ];
}

function notHere({ network, hosts }: Pick<NetworkNames, "network" | "hosts">): string {
  const who =
    hosts.length === 0 ? "no host is" : `${hosts.join(", ")} ${hosts.length === 1 ? "is" : "are"}`;
  return `this host is not on ${network} and knows no names of it; ${who}`;
}

export interface EventsOptions {
  readonly follow?: boolean;
  readonly since?: string;
  readonly network?: string;
}

export async function events(
  context: Context,
  { follow, since, network }: EventsOptions,
): Promise<void> {
  const query = new URLSearchParams();
  if (network !== undefined) query.set("network", network);
  if (follow === true) query.set("follow", "true");
  // As with `docker events`: who follows sees what comes, unless more was asked for.
  const sinceMs =
    since === undefined ? (follow === true ? 0 : undefined) : parseSince(since, Date.now());
  if (sinceMs !== undefined) query.set("sinceMs", String(sinceMs));
  // Whoever reads us may have had enough, as `head`.
  process.stdout.on("error", () => process.exit());
  for await (const told of followAgent<Told>(context, `/v1/events?${query.toString()}`))
    if (context.json === true) process.stdout.write(`${JSON.stringify(told)}\n`);
    else if (told.kind !== "missed") process.stdout.write(`${eventLine(told)}\n`);
    else progress(`earlier events are no longer kept: ${told.count} since the agent started`);
}
