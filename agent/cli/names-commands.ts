import type { NameRow } from "../core/names/name-rows.ts";
import { eventLine } from "./event-lines.ts";
import type { Told } from "../events/event-log.ts";
import { callAgent, type Context, followAgent, parseDuration } from "./context.ts";
import { print, progress, table } from "./output.ts";

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
}

export interface NamesOptions {
  /** Docker's short ids too. */
  readonly all?: boolean;
}

export async function names(
  context: Context,
  network: string | undefined,
  { all = false }: NamesOptions,
): Promise<void> {
  const query = network === undefined ? "" : `?network=${encodeURIComponent(network)}`;
  const found = await callAgent<NetworkNames[]>(context, "GET", `/v1/names${query}`);
  print(context, found, () => namesText(found, all));
}

export function namesText(found: readonly NetworkNames[], all: boolean): string {
  const elsewhere = found.filter(({ here }) => !here).map(notHere);
  const rows = found
    .toSorted((a, b) => (a.network < b.network ? -1 : 1))
    .flatMap(({ network, names }) =>
      names
        .filter(({ shortId }) => all || !shortId)
        .map(({ name, ips, host, container, state }) => {
          return [network, name, ips.join(",") || "-", host, container, state];
        }),
    );
  if (rows.length === 0 && elsewhere.length > 0) return elsewhere.join("\n");
  const names = table(["NETWORK", "NAME", "ADDRESS", "HOST", "CONTAINER", "STATE"], rows);
  const beside = found.flatMap(besideText);
  return [names, ...(beside.length === 0 ? [] : ["", ...beside])].join("\n");
}

/** What is not in the rows, and decides on answers all the same. */
function besideText({
  network,
  names,
  gone = [],
  links = [],
  leftOut = [],
}: NetworkNames): string[] {
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

function notHere({ network, hosts }: NetworkNames): string {
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
  const sinceMs = since === undefined ? (follow === true ? 0 : undefined) : parseDuration(since);
  if (sinceMs !== undefined) query.set("sinceMs", String(sinceMs));
  // Whoever reads us may have had enough, as `head`.
  process.stdout.on("error", () => process.exit());
  for await (const told of followAgent<Told>(context, `/v1/events?${query.toString()}`))
    if (context.json === true) process.stdout.write(`${JSON.stringify(told)}\n`);
    else if (told.kind !== "missed") process.stdout.write(`${eventLine(told)}\n`);
    else progress(`earlier events are no longer kept: ${told.count} since the agent started`);
}
