import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { difference, type Happening } from "../../agent/core/events/events.ts";
import { changeOwn } from "../../agent/core/tables/own-documents.ts";
import { Tables } from "../../agent/core/tables/tables.ts";
import {
  NOTHING_SEEN,
  type Problem,
  type SeenHolder,
  type SeenNetwork,
  type View,
  ViewReader,
  type ViewSources,
} from "../../agent/core/events/view.ts";
import type { NetworkDocument } from "../../shared/documents.ts";
import { type EndpointId, NetworkId, type NodeId } from "../../shared/ids.ts";
import { Ip } from "../../shared/ip.ts";
import { sha256 } from "../../shared/node/system.ts";
import { app, clusterState, endpoint, hashSigner, nodeId } from "../support/cluster.ts";

const web = { ...app, id: NetworkId.parse("0b".repeat(16)), name: undefined };

/** What somebody who only reads the events knows of the cluster. */
class Listener {
  readonly hosts = new Map<NodeId, { name: string; lost: boolean }>();
  readonly networks = new Map<
    NetworkId,
    {
      name: string | undefined;
      removed: boolean;
      holders: Map<NodeId, Map<EndpointId, SeenHolder>> | undefined;
    }
  >();
  readonly problems = new Map<string, Problem>();
  tampered = 0;

  hear(event: Happening): void {
    switch (event.kind) {
      case "host-joined":
        this.hosts.set(event.node, { name: event.host, lost: false });
        break;
      case "host-left":
        this.hosts.delete(event.node);
        break;
      case "host-unreachable":
      case "host-back":
        this.hosts.get(event.node)!.lost = event.kind === "host-unreachable";
        break;
      case "network-appeared":
        this.networks.set(event.id, { name: nameOf(event), removed: false, holders: undefined });
        break;
      case "network-named":
        this.networks.get(event.id)!.name = nameOf(event);
        break;
      case "network-ended":
        this.networks.delete(event.id);
        break;
      case "network-here":
        this.networks.get(event.id)!.holders = new Map();
        break;
      case "network-not-here":
        this.networks.get(event.id)!.holders = undefined;
        break;
      case "network-removed":
      case "network-put-back":
        this.networks.get(event.id)!.removed = event.kind === "network-removed";
        break;
      case "in":
      case "out":
      case "changed": {
        const { names, ips, state } = event;
        const holders = this.networks.get(event.id)!.holders!;
        if (!holders.has(event.node)) holders.set(event.node, new Map());
        holders.get(event.node)!.set(event.endpoint, { names, ips, state });
        break;
      }
      case "gone": {
        const holders = this.networks.get(event.id)!.holders!;
        holders.get(event.node)!.delete(event.endpoint);
        if (holders.get(event.node)!.size === 0) holders.delete(event.node);
        break;
      }
      case "problem": {
        const { what, id: network, message } = event;
        this.problems.set(`${what} ${network ?? ""}`, { what, network, message });
        break;
      }
      case "recovered":
        this.problems.delete(`${event.what} ${event.id ?? ""}`);
        break;
      case "guards-tampered":
        this.tampered += event.times;
    }
  }
}

function nameOf({ network, named }: { network: string; named: boolean }): string | undefined {
  return named ? network : undefined;
}

const few = <T>(...all: T[]): fc.Arbitrary<T[]> => fc.subarray(all);
/** Mostly all of them: what changes then is seen, not that it came or went. */
const mostly = <T>(...all: T[]): fc.Arbitrary<T[]> =>
  fc.oneof({ weight: 4, arbitrary: fc.constant(all) }, few(...all));

/** One that breaks a rule lies in no block of its host. */
const container = fc.record(
  {
    n: fc.integer({ min: 1, max: 2 }),
    names: mostly("db", "web", "not a name"),
    out: fc.constantFrom("starting", "unhealthy", "paused", "of a later version"),
    moved: fc.constant(true),
    elsewhere: fc.constant(true),
  },
  { requiredKeys: ["n"] },
);

const step = fc.record({
  members: mostly(1, 2, 3).filter((members) => members.length > 0),
  renamed: few(2, 3),
  networks: fc.oneof(
    mostly(app, web),
    mostly({ ...web, name: "web" }, { ...app, unhealthyNames: "include" as const }),
  ),
  documents: fc.array(
    fc.record({
      k: fc.integer({ min: 1, max: 2 }),
      network: fc.constantFrom(app.id, web.id),
      containers: fc.uniqueArray(container, { selector: ({ n }) => n, maxLength: 4 }),
    }),
    { maxLength: 3 },
  ),
  hosted: mostly(app.id, web.id),
  removed: few(app.id, web.id),
  lost: few(nodeId(2), nodeId(3)),
  problems: fc.uniqueArray(
    fc.record({
      what: fc.constantFrom("kernel" as const, "guards" as const),
      network: fc.constantFrom(app.id, web.id, undefined),
      message: fc.constantFrom("EPERM", "EBUSY"),
    }),
    { selector: ({ what, network }) => `${what} ${network}` },
  ),
  tampered: fc.integer({ min: 0, max: 2 }),
});
type Life = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** The same tables, changed step by step as a host's are. */
class World {
  readonly #tables = new Tables();
  readonly #documents = new Map<string, NetworkDocument>();
  #revision = 0;
  #tampered = 0;

  after({
    members,
    renamed,
    networks,
    documents,
    hosted,
    removed,
    lost,
    problems,
    tampered,
  }: Life) {
    const state = clusterState(3, { revision: ++this.#revision });
    this.#tables.mergeState({
      ...state,
      nodes: state.nodes
        .filter(({ index }) => members.includes(index))
        .map((node) => (renamed.includes(node.index) ? { ...node, name: `${node.name}b` } : node)),
      networks,
      blocks: [
        ...state.blocks,
        ...state.blocks.map((block) => {
          return { ...block, network: web.id };
        }),
      ],
    });
    for (const { k, network, containers } of documents) {
      const node = nodeId(k);
      const key = `${k} ${network}`;
      const before = this.#documents.get(key);
      const put = containers.map(({ n, names, out, moved, elsewhere }) => {
        const made = { ...endpoint(k, moved === true ? n + 100 : n), id: endpoint(k, n).id };
        return {
          ...made,
          ...(names === undefined ? {} : { names }),
          ...(out === undefined ? {} : { out }),
          ...(elsewhere === undefined ? {} : { ipv4: Ip.parse(`10.192.200.${n}`) }),
        };
      });
      const gone = (before?.endpoints ?? []).filter(({ id }) => !put.some((p) => p.id === id));
      const own = { node, hasher: sha256, signer: hashSigner(node) };
      const ids = gone.map(({ id }) => id);
      const { document } = changeOwn(own, network, before, put, ids);
      this.#documents.set(key, document);
      this.#tables.mergeNetwork(document);
    }
    this.#tampered += tampered;
    const known = new Set(this.#tables.state?.networks.map(({ id }) => id));
    const sources: ViewSources = {
      tables: this.#tables,
      hosted: new Set(hosted),
      removed: new Set(removed),
      lost: new Set(lost),
      problems: problems.filter(({ network }) => network === undefined || known.has(network)),
      tampered: this.#tampered,
    };
    return sources;
  }
}

function plain({ hosts, networks, problems, tampered }: View | Listener): unknown {
  return { hosts, networks, problems, tampered };
}

describe("events", () => {
  test("whoever heard them all knows the view", () => {
    const kinds = new Set<string>();
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 8 }), (life) => {
        const world = new World();
        const reader = new ViewReader();
        const listener = new Listener();
        let seen = NOTHING_SEEN;
        for (const sources of life.map((one) => () => world.after(one))) {
          const now = reader.read(sources());
          for (const event of difference(seen, now)) {
            kinds.add(event.kind);
            listener.hear(event);
          }
          expect(plain(listener)).toEqual(plain(now));
          seen = now;
        }
      }),
    );
    expect([...kinds].toSorted()).toEqual([
      "changed",
      "gone",
      "guards-tampered",
      "host-back",
      "host-joined",
      "host-left",
      "host-unreachable",
      "in",
      "network-appeared",
      "network-ended",
      "network-here",
      "network-named",
      "network-not-here",
      "network-put-back",
      "network-removed",
      "out",
      "problem",
      "recovered",
    ]);
  });

  test("a reader that remembers sees what one without memory sees", () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 8 }), (life) => {
        const world = new World();
        const reader = new ViewReader();
        for (const one of life) {
          const sources = world.after(one);
          const seen = reader.read(sources);
          expect(plain(seen)).toEqual(plain(new ViewReader().read(sources)));
          expect(difference(seen, reader.read(sources))).toEqual([]);
        }
      }),
    );
  });

  test("what did not change is the same object, whatever changed beside it", () => {
    const world = new World();
    const reader = new ViewReader();
    const life = (documents: Life["documents"], lost: NodeId[] = []): Life => ({
      members: [1, 2, 3],
      renamed: [],
      networks: [app, { ...web, name: "web" }],
      documents,
      hosted: [app.id, web.id],
      removed: [],
      lost,
      problems: [],
      tampered: 0,
    });
    const db = { n: 1, names: ["db"] };
    const all = [1, 2, 3].flatMap((k) =>
      [app.id, web.id].map((network) => ({ k, network, containers: [db, { n: 2, names: ["x"] }] })),
    );
    const before = reader.read(world.after(life(all)));
    const holders = ({ networks }: View, id: NetworkId) => networks.get(id)!.holders!;
    const more = { k: 2, network: app.id, containers: [db, { n: 3, names: ["new"] }] };
    const after = reader.read(world.after(life([more])));
    expect(after.hosts).toBe(before.hosts);
    expect<SeenNetwork | undefined>(after.networks.get(web.id)).toBe(before.networks.get(web.id));
    const [was, is] = [before, after].map((view) => holders(view, app.id));
    expect(is!.get(nodeId(1))).toBe(was!.get(nodeId(1)));
    expect(is!.get(nodeId(2))).not.toBe(was!.get(nodeId(2)));
    expect(difference(before, after).map(({ kind }) => kind)).toEqual(["in", "gone"]);
    const lost = reader.read(world.after(life([], [nodeId(2)])));
    expect(lost.networks).toBe(after.networks);
    expect(difference(after, lost)).toMatchObject([
      {
        kind: "host-unreachable",
        host: "h2",
        holds: [
          { network: "app", names: ["db", "new"], count: 2 },
          { network: "web", names: ["db", "x"], count: 2 },
        ],
      },
    ]);
  });
});
