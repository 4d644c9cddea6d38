import type { NetworkRecord, SecurityClass } from "../../../shared/cluster-state.ts";
import {
  claimedAddresses,
  type Endpoint,
  type NetworkDocument,
} from "../../../shared/documents.ts";
import type { EndpointId, NetworkId, NodeId } from "../../../shared/ids.ts";
import type { Ip } from "../../../shared/ip.ts";
import type { Ignored } from "../data-plane/read-network.ts";
import { documentsOfHosts, ignoredOf, stateOf } from "../names/members.ts";
import { namesOf } from "../names/names.ts";
import { admittedHosts } from "../tables/admitted.ts";
import type { Tables } from "../tables/tables.ts";

/** What a person would see of the cluster from this host at one moment. */
export interface View {
  readonly hosts: ReadonlyMap<NodeId, SeenHost>;
  readonly networks: ReadonlyMap<NetworkId, SeenNetwork>;
  /** What does not work here, by what and network. */
  readonly problems: ReadonlyMap<string, Problem>;
  /** How often somebody else changed the guards. */
  readonly tampered: number;
}

export interface SeenHost {
  readonly name: string;
  /** This host does not reach it: nothing of it is in answers. */
  readonly lost: boolean;
}

export interface SeenNetwork {
  /** Undefined: Docker has not told it yet. */
  readonly name: string | undefined;
  /** Its view was removed on this engine, and nothing was decided yet. */
  readonly removed: boolean;
  /** By the host they are on. Undefined: this host is not on the network, and knows none. */
  readonly holders: Holders | undefined;
}

export type Holders = ReadonlyMap<NodeId, HoldersOfHost>;
export type HoldersOfHost = ReadonlyMap<EndpointId, SeenHolder>;

/** An endpoint that has a name, or that breaks a rule. */
export interface SeenHolder {
  readonly names: readonly string[];
  readonly ips: readonly Ip[];
  /** As `Member.state`, but never for its host's sake. */
  readonly state: string;
}

export interface Problem {
  readonly what:
    | "membership"
    | "identity"
    | "state"
    | "kernel"
    | "guards"
    | "way out"
    | "disk"
    | "data path"
    | "underlay"
    | "controller"
    | "docker"
    | "keys"
    | "adoption"
    | "interfaces"
    | "names"
    | "published ports"
    | "ipv6"
    | "name server"
    | "virtual addresses"
    | "controller link"
    | "mesh"
    | Exclude<SecurityClass, "none">;
  readonly network: NetworkId | undefined;
  readonly message: string;
  /** What to do about it. */
  readonly next?: string | undefined;
}

export const NOTHING_SEEN: View = {
  hosts: new Map(),
  networks: new Map(),
  problems: new Map(),
  tampered: 0,
};

export interface ViewSources {
  readonly tables: Tables;
  /** Networks that this host is on. */
  readonly hosted: ReadonlySet<NetworkId>;
  /** Networks whose view was removed here, and nothing was decided yet. */
  readonly removed: ReadonlySet<NetworkId>;
  /** Hosts that this one does not reach. */
  readonly lost: ReadonlySet<NodeId>;
  readonly problems: readonly Problem[];
  readonly tampered: number;
}

/**
 * Reads views. What has not changed since the last is the same object, down to the holder: documents
 * and endpoints are never changed, only replaced, so a change costs what it changed, and the number of
 * documents.
 */
export class ViewReader {
  #last: View = NOTHING_SEEN;
  readonly #documents = new WeakMap<NetworkDocument, ReadDocument>();
  readonly #endpoints = new WeakMap<Endpoint, SeenHolder>();

  read(sources: ViewSources): View {
    const { hosts, networks } = this.#last;
    this.#last = {
      hosts: kept(hosts, this.#hosts(sources), sameHost),
      networks: kept(networks, this.#networks(sources), sameNetwork),
      problems: new Map(
        sources.problems.map((problem) => [`${problem.what} ${problem.network ?? ""}`, problem]),
      ),
      tampered: sources.tampered,
    };
    return this.#last;
  }

  #hosts({ tables: { state }, lost }: ViewSources): Map<NodeId, SeenHost> {
    const members = admittedHosts(state);
    return new Map(members.map(({ id, name }) => [id, { name, lost: lost.has(id) }]));
  }

  #networks({ tables, hosted, removed }: ViewSources): Map<NetworkId, SeenNetwork> {
    return new Map(
      (tables.state?.networks ?? []).map((record) => {
        const before = this.#last.networks.get(record.id)?.holders ?? new Map();
        const holders = hosted.has(record.id)
          ? kept(before, this.#holders(tables, record), Object.is)
          : undefined;
        return [record.id, { name: record.name, removed: removed.has(record.id), holders }];
      }),
    );
  }

  #holders(tables: Tables, record: NetworkRecord): Map<NodeId, HoldersOfHost> {
    const ignored = ignoredOf(tables, record);
    const found = new Map<NodeId, HoldersOfHost>();
    for (const document of documentsOfHosts(tables, record)) {
      const holders = this.#document(document, record, ignored.get(document.node) ?? NO_RULES);
      if (holders.size > 0) found.set(document.node, holders);
    }
    return found;
  }

  #document(document: NetworkDocument, record: NetworkRecord, rules: Rules): HoldersOfHost {
    const { unhealthyNames } = record;
    const held = this.#documents.get(document);
    if (held?.unhealthyNames === unhealthyNames && sameRules(held.rules, rules))
      return held.holders;
    const holders = new Map<EndpointId, SeenHolder>();
    for (const endpoint of document.endpoints) {
      const rule = rules.get(endpoint.id);
      const seen = this.#endpoint(endpoint, stateOf(endpoint, record, rule));
      if (seen.names.length > 0 || rule !== undefined) holders.set(endpoint.id, seen);
    }
    this.#documents.set(document, { unhealthyNames, rules, holders });
    return holders;
  }

  #endpoint(endpoint: Endpoint, state: string): SeenHolder {
    const held = this.#endpoints.get(endpoint);
    if (held?.state === state) return held;
    const seen = { names: namesOf(endpoint), ips: claimedAddresses(endpoint), state };
    this.#endpoints.set(endpoint, seen);
    return seen;
  }
}

type Rules = ReadonlyMap<EndpointId, Ignored["reason"]>;
const NO_RULES: Rules = new Map();

/** What a document's holders follow from. */
interface ReadDocument {
  readonly unhealthyNames: NetworkRecord["unhealthyNames"];
  readonly rules: Rules;
  readonly holders: HoldersOfHost;
}

function sameRules(a: Rules, b: Rules): boolean {
  return a.size === b.size && [...a].every(([id, rule]) => b.get(id) === rule);
}

function sameHost(a: SeenHost, b: SeenHost): boolean {
  return a.name === b.name && a.lost === b.lost;
}

function sameNetwork(a: SeenNetwork, b: SeenNetwork): boolean {
  return a.name === b.name && a.removed === b.removed && a.holders === b.holders;
}

/** What is the same in `now` is what it was; `before` itself when all of it is. */
function kept<K, V>(
  before: ReadonlyMap<K, V>,
  now: Map<K, V>,
  same: (a: V, b: V) => boolean,
): ReadonlyMap<K, V> {
  let changed = before.size !== now.size;
  for (const [key, value] of now) {
    const held = before.get(key);
    if (held !== undefined && same(held, value)) now.set(key, held);
    else changed = true;
  }
  return changed ? now : before;
}
