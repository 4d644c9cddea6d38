import { OverlayError } from "../shared/errors.ts";
import { ControllerRecord } from "./core/record.ts";
import type { RowChanges, Rows } from "./store/port.ts";

/**
 * The record as rows of JSON: `cluster` with what there is once, and a row for each node, network, block, token and so on. A
 * decision changes a few of them, whatever the cluster's size.
 */

/** What is a list in the record, by the key of one of its rows. */
interface List {
  readonly of: (record: ControllerRecord) => readonly unknown[];
  readonly key: (one: never) => string;
}

type Keyed = { readonly network: string; readonly block: string };

const LISTS = {
  node: { of: ({ state }) => state.nodes, key: ({ id }: { id: string }) => id },
  network: { of: ({ state }) => state.networks, key: ({ id }: { id: string }) => id },
  revoked: { of: ({ state }) => state.revoked, key: (id: string) => id },
  block: { of: ({ state }) => state.blocks, key: placeOf },
  vip: {
    of: ({ state }) => state.vips ?? [],
    key: ({ network, name }: { network: string; name: string }) => `${network}/${name}`,
  },
  token: { of: ({ tokens }) => tokens, key: ({ id }: { id: string }) => id },
  quarantine: { of: ({ quarantine = [] }) => quarantine, key: placeOf },
  former: {
    of: ({ formerAddresses = [] }) => formerAddresses,
    key: ({ node, ip }: { node: string; ip: string }) => `${node}/${ip}`,
  },
} satisfies Record<string, List>;

const MAPS = {
  key: ({ networkKeys }: ControllerRecord) => networkKeys,
  machine: ({ machines = {} }: ControllerRecord) => machines,
  given: ({ givenAt = {} }: ControllerRecord) => givenAt,
} satisfies Record<string, (record: ControllerRecord) => Readonly<Record<string, unknown>>>;

function placeOf({ network, block }: Keyed): string {
  return `${network}/${block}`;
}

/** Records are replaced, never changed: what both have as the same object is not looked into. */
export function rowChanges(
  before: ControllerRecord | undefined,
  after: ControllerRecord,
): RowChanges & { readonly grewBytes: number } {
  const put: [string, Uint8Array][] = [];
  const drop: string[] = [];
  let grewBytes = 0;
  const putRow = (key: string, text: string, was: string | undefined): void => {
    if (was === text) return;
    const bytes = bytesOf(text);
    grewBytes += bytes.length - (was === undefined ? -key.length : bytesOf(was).length);
    put.push([key, bytes]);
  };
  const textOf = (value: unknown): string | undefined =>
    value === undefined ? undefined : JSON.stringify(value);
  const compare = (kind: string, was: ReadonlyMap<string, unknown>, is: typeof was): void => {
    for (const [key, value] of is) {
      const held = was.get(key);
      if (held !== value) putRow(`${kind}/${key}`, JSON.stringify(value), textOf(held));
    }
    for (const [name, value] of was) {
      if (is.has(name)) continue;
      const key = `${kind}/${name}`;
      grewBytes -= key.length + bytesOf(JSON.stringify(value)).length;
      drop.push(key);
    }
  };
  putRow("cluster", JSON.stringify(onceOf(after)), textOf(before && onceOf(before)));
  for (const [kind, list] of Object.entries<List>(LISTS)) {
    const [was, is] = [before === undefined ? [] : list.of(before), list.of(after)];
    if (was !== is) compare(kind, byKey(was, list), byKey(is, list));
  }
  for (const [kind, of] of Object.entries(MAPS)) {
    const [was, is] = [before === undefined ? {} : of(before), of(after)];
    if (was !== is) compare(kind, new Map(Object.entries(was)), new Map(Object.entries(is)));
  }
  return { put, drop, grewBytes };
}

/** All of its rows, for a store that has none. */
export function wholeOf(record: ControllerRecord): ReturnType<typeof rowChanges> {
  return rowChanges(undefined, record);
}

/** @throws STORE when they are not a record of this version */
export function recordOf(rows: Rows): ControllerRecord {
  try {
    return ControllerRecord.parse(joined(rows));
  } catch (cause) {
    throw unreadable(cause);
  }
}

export function unreadable(cause: unknown): OverlayError {
  return new OverlayError(
    {
      code: "STORE",
      message: "the controller's database holds a record this version cannot read",
      next: "run the version of overlay-ts that wrote it, or a newer one; if it is damaged, restore it from a backup",
    },
    { cause },
  );
}

/** What has rows of its own. */
const IN_ROWS: readonly (keyof ControllerRecord | keyof ControllerRecord["state"])[] = [
  ...(["state", "tokens", "networkKeys", "quarantine", "formerAddresses"] as const),
  ...(["machines", "givenAt", "nodes", "revoked", "networks", "blocks", "vips"] as const),
];

/** What there is once, fields of later versions with it. */
function onceOf(record: ControllerRecord): object {
  const once = (of: object): object =>
    Object.fromEntries(Object.entries(of).filter(([name]) => !IN_ROWS.includes(name as never)));
  return { ...once(record), state: once(record.state) };
}

function joined(rows: Rows): object {
  const lists = new Map<string, unknown[]>();
  const maps = new Map<string, Record<string, unknown>>();
  let once: { state?: object } = {};
  for (const [key, bytes] of rows) {
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
    const [kind = ""] = key.split("/", 1);
    const name = key.slice(kind.length + 1);
    if (key === "cluster") once = value as typeof once;
    else if (kind in LISTS) (lists.get(kind) ?? added(lists, kind, [])).push(value);
    else if (kind in MAPS) (maps.get(kind) ?? added(maps, kind, {}))[name] = value;
    else throw new Error(`a row of an unknown kind: ${key}`);
  }
  const list = (kind: keyof typeof LISTS): unknown[] => lists.get(kind) ?? [];
  const state = {
    ...once.state,
    nodes: list("node"),
    revoked: list("revoked"),
    networks: list("network"),
    blocks: list("block"),
    ...(lists.has("vip") && { vips: list("vip") }),
  };
  const [machines, givenAt] = [maps.get("machine"), maps.get("given")];
  return {
    ...once,
    state,
    tokens: list("token"),
    networkKeys: maps.get("key") ?? {},
    ...(lists.has("quarantine") && { quarantine: list("quarantine") }),
    ...(lists.has("former") && { formerAddresses: list("former") }),
    ...(machines && { machines }),
    ...(givenAt && { givenAt }),
  };
}

function added<T>(to: Map<string, T>, kind: string, value: T): T {
  to.set(kind, value);
  return value;
}

function byKey(list: readonly unknown[], { key }: List): Map<string, unknown> {
  return new Map(list.map((one) => [key(one as never), one]));
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
