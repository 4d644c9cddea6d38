import type { EndpointId, NetworkId, NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import { IN } from "../names/members.ts";
import type {
  Holders,
  HoldersOfHost,
  Problem,
  SeenHolder,
  SeenHost,
  SeenNetwork,
  View,
} from "./view.ts";

/** One thing that happened on this host's view: what `overlay-ts events` shows a line for. */
export type Happening =
  | HostHappening
  | ReachHappening
  | NetworkHappening
  | HolderHappening
  | HolderGone
  | ProblemHappening
  | ProblemOver
  | { readonly kind: "guards-tampered"; readonly times: number };

export interface HostHappening {
  readonly kind: "host-joined" | "host-left";
  readonly host: string;
  readonly node: NodeId;
}

/** All of a host's names at once, not one by one: it may have a thousand. */
export interface ReachHappening {
  readonly kind: "host-unreachable" | "host-back";
  readonly host: string;
  readonly node: NodeId;
  /** Containers on networks of this host that are in no answer from now on, or may be again. */
  readonly holds: readonly {
    readonly network: string;
    readonly id: NetworkId;
    /** Their own names, the first `NAMES_TOLD` of them. */
    readonly names: readonly string[];
    readonly count: number;
  }[];
}

interface OfNetwork {
  /** Its name; before Docker has told it, the beginning of its id. */
  readonly network: string;
  readonly id: NetworkId;
}

export interface NetworkHappening extends OfNetwork {
  readonly kind:
    | "network-appeared"
    | "network-named"
    | "network-ended"
    /** This host is on it: its names are known from now on. */
    | "network-here"
    /** Not any more: none of its names is known. */
    | "network-not-here"
    /** Its view was removed on this engine. */
    | "network-removed"
    /** Containers need it, or it was made elsewhere. */
    | "network-put-back";
  /** False: `network` is the beginning of its id. */
  readonly named: boolean;
}

/** `in`: in answers; `out`: in none; `changed`: as before, with other names or addresses. */
export interface HolderHappening extends OfNetwork {
  readonly kind: "in" | "out" | "changed";
  readonly host: string;
  readonly node: NodeId;
  readonly endpoint: EndpointId;
  readonly names: readonly string[];
  readonly ips: readonly Ip[];
  /** As `Member.state`. */
  readonly state: string;
}

/** `names` and `ips` are those it had. */
export interface HolderGone extends Omit<HolderHappening, "kind" | "state"> {
  readonly kind: "gone";
}

export interface ProblemHappening {
  readonly kind: "problem";
  readonly what: Problem["what"];
  readonly network?: string;
  readonly id?: NetworkId;
  readonly message: string;
}

export interface ProblemOver extends Omit<ProblemHappening, "kind" | "message"> {
  readonly kind: "recovered";
}

export const NAMES_TOLD = 16;

/**
 * What happened between two views, in the order in which it can be followed: hosts, networks, what is
 * on them, problems. What is the same object in both was not touched, and costs nothing.
 */
export function difference(before: View, after: View): Happening[] {
  const times = after.tampered - before.tampered;
  return [
    ...hostsDiffer(before, after),
    ...networksDiffer(before, after),
    ...problemsDiffer(before, after),
    ...(times > 0 ? [{ kind: "guards-tampered", times } as const] : []),
  ];
}

/** Whether it is of the network with this name or id. */
export function concerns(happening: Happening, network: string): boolean {
  const named = (of: { readonly network?: string; readonly id?: string }): boolean =>
    of.network === network || of.id === network;
  switch (happening.kind) {
    case "host-unreachable":
    case "host-back":
      return happening.holds.some(named);
    case "host-joined":
    case "host-left":
    case "guards-tampered":
      return false;
    default:
      return named(happening);
  }
}

function hostsDiffer(before: View, after: View): Happening[] {
  return [...changes(before.hosts, after.hosts)].flatMap(([node, was, is]) => {
    const left = was !== undefined && was.name !== is?.name;
    const joined = is !== undefined && was?.name !== is.name;
    const wasLost = !joined && was?.lost === true;
    return [
      ...(left ? [{ kind: "host-left", host: was.name, node } as const] : []),
      ...(joined ? [{ kind: "host-joined", host: is.name, node } as const] : []),
      ...(is !== undefined && is.lost !== wasLost ? [reach(node, is, after)] : []),
    ];
  });
}

function reach(node: NodeId, { name, lost }: SeenHost, { networks }: View): ReachHappening {
  const holds = [...networks].flatMap(([id, network]) => {
    const own = [...(network.holders?.get(node)?.values() ?? [])].flatMap(({ names, state }) =>
      state === IN ? (names[0] ?? []) : [],
    );
    if (own.length === 0) return [];
    return [{ ...ofNetwork(id, network), names: own.slice(0, NAMES_TOLD), count: own.length }];
  });
  return { kind: lost ? "host-unreachable" : "host-back", host: name, node, holds };
}

function networksDiffer(before: View, after: View): Happening[] {
  return [...changes(before.networks, after.networks)].flatMap(([id, was, is]) => {
    if (is === undefined)
      return was === undefined ? [] : [networkHappening("network-ended", id, was)];
    const kinds: NetworkHappening["kind"][] = [
      ...(was === undefined ? (["network-appeared"] as const) : []),
      ...(was !== undefined && was.name !== is.name ? (["network-named"] as const) : []),
      ...(was?.removed !== true && is.removed ? (["network-removed"] as const) : []),
      ...(was?.removed === true && !is.removed ? (["network-put-back"] as const) : []),
      ...(was?.holders === undefined && is.holders !== undefined
        ? (["network-here"] as const)
        : []),
      ...(was?.holders !== undefined && is.holders === undefined
        ? (["network-not-here"] as const)
        : []),
    ];
    return [
      ...kinds.map((kind) => networkHappening(kind, id, is)),
      ...holdersDiffer(was?.holders ?? NONE, is.holders ?? NONE, is.holders !== undefined).map(
        (rest): Happening => ({
          ...ofNetwork(id, is),
          host: after.hosts.get(rest.node)?.name ?? before.hosts.get(rest.node)?.name ?? rest.node,
          ...rest,
        }),
      ),
    ];
  });
}

const NONE: Holders = new Map();
const NOBODY: HoldersOfHost = new Map();

type Rest<T> = T extends unknown ? Omit<T, "network" | "id" | "host"> : never;

/** `known`: this host is on the network; else that holders are not known does not mean that they went. */
function holdersDiffer(
  before: Holders,
  after: Holders,
  known: boolean,
): Rest<HolderHappening | HolderGone>[] {
  if (!known) return [];
  return [...changes(before, after)].flatMap(([node, were = NOBODY, are = NOBODY]) =>
    [...changes(were, are)].flatMap(([endpoint, was, is]): Rest<HolderHappening | HolderGone>[] => {
      if (is !== undefined) {
        const kind = kindOf(was, is);
        return kind === undefined ? [] : [{ kind, node, endpoint, ...is }];
      }
      if (was === undefined) return [];
      const { names, ips } = was;
      return [{ kind: "gone" as const, node, endpoint, names, ips }];
    }),
  );
}

function kindOf(was: SeenHolder | undefined, is: SeenHolder): HolderHappening["kind"] | undefined {
  if (was?.state !== is.state) return is.state === IN ? "in" : "out";
  return sameList(was.names, is.names) && sameList(was.ips, is.ips) ? undefined : "changed";
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((item, i) => item === b[i]);
}

function problemsDiffer(before: View, after: View): Happening[] {
  return [...changes(before.problems, after.problems)].flatMap(([, was, is]): Happening[] => {
    const problem = is ?? was;
    if (problem === undefined || was?.message === is?.message) return [];
    const { what, network: id } = problem;
    const seen = id && (after.networks.get(id) ?? before.networks.get(id));
    const where = { what, ...(id === undefined ? {} : ofNetwork(id, seen)) };
    if (is === undefined) return [{ kind: "recovered", ...where }];
    return [{ kind: "problem", ...where, message: is.message }];
  });
}

function networkHappening(
  kind: NetworkHappening["kind"],
  id: NetworkId,
  network: SeenNetwork,
): NetworkHappening {
  return { kind, ...ofNetwork(id, network), named: network.name !== undefined };
}

function ofNetwork(id: NetworkId, network: Pick<SeenNetwork, "name"> | undefined): OfNetwork {
  return { network: network?.name ?? id.slice(0, 12), id };
}

/** Keys whose values are not the same object, those of `after` in its order, then what went. */
function* changes<K, V>(
  before: ReadonlyMap<K, V>,
  after: ReadonlyMap<K, V>,
): Generator<[K, V | undefined, V | undefined]> {
  if (before === after) return;
  for (const [key, is] of after) {
    const was = before.get(key);
    if (was !== is) yield [key, was, is];
  }
  for (const [key, was] of before) if (!after.has(key)) yield [key, was, undefined];
}
