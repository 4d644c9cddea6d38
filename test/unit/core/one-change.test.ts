import { beforeEach, describe, expect, test } from "vitest";
import { desiredGuards } from "../../../agent/core/data-plane/desired-guards.ts";
import { desired, plainPaths } from "../../../agent/core/data-plane/desired-network.ts";
import { HeldNetwork, nothingOf } from "../../../agent/core/data-plane/held-network.ts";
import type { Step, Wanted } from "../../../agent/core/data-plane/kernel-state.ts";
import { plan } from "../../../agent/core/data-plane/plan.ts";
import { readAnew, readNetwork } from "../../../agent/core/data-plane/read-network.ts";
import { sameWanted } from "../../../agent/core/data-plane/same-wanted.ts";
import { namedHosts } from "../../../agent/core/names/names.ts";
import { ToldHolders } from "../../../agent/core/names/told-holders.ts";
import { changeOwn } from "../../../agent/core/tables/own-documents.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { GuardElements, scriptOf } from "../../../agent/kernel/nft/guard-sets.ts";
import type { BlockRecord, ClusterState, NetworkRecord } from "../../../shared/cluster-state.ts";
import type { Endpoint } from "../../../shared/documents.ts";
import { NetworkId } from "../../../shared/ids.ts";
import { Cidr } from "../../../shared/ip.ts";
import { sha256 } from "../../../shared/node/system.ts";
import {
  app,
  clusterState,
  endpoint,
  hashSigner,
  hostDocument,
  nodeId,
  vtepOf,
} from "../../support/cluster.ts";

/** Host 1 beside two others with twenty containers each, and what it does of one change there. */

const self = nodeId(1);
let tables: Tables;
let held: HeldNetwork;
let elements: GuardElements;
let told: ToldHolders;
let before: Wanted;

const container = (k: number, n: number): Endpoint => ({ ...endpoint(k, n), names: [`c${n}`] });

function said(k: number, put: readonly Endpoint[], remove: readonly Endpoint[] = []): void {
  const node = nodeId(k);
  const own = { node, hasher: sha256, signer: hashSigner(node) };
  const last = tables.documents(app.id).get(node);
  const ids = remove.map(({ id }) => id);
  tables.mergeNetwork(changeOwn(own, app.id, last, put, ids).document);
}

function wanted(): Wanted {
  const network = desired(tables, self, app.id, plainPaths(tables, self))!;
  return { kind: "present", desired: network, prune: true };
}

/** What is to be done since it was asked last. */
function work(): { steps: readonly Step[]; script: string; names: object; pass: boolean } {
  const to = wanted();
  const pass = !sameWanted(before, to);
  const steps = plan(held, to);
  for (const step of steps) held.carriedOut(step);
  held.reached(to);
  before = to;
  const guards = desiredGuards(tables, self, ["none"])!;
  const script = scriptOf("t", elements.changesTo(guards));
  elements.written(guards);
  return { steps, script, names: told.change(namedHosts(tables, app, new Set())), pass };
}

beforeEach(() => {
  tables = new Tables();
  tables.mergeState(clusterState(3));
  for (const k of [1, 2, 3]) {
    tables.mergeHost(hostDocument(k, { hosting: [app.id] }));
    said(
      k,
      Array.from({ length: 20 }, (_, n) => container(k, n + 2)),
    );
  }
  held = new HeldNetwork(nothingOf(app.id));
  elements = new GuardElements(desiredGuards(tables, self, ["none"])!);
  told = new ToldHolders();
  before = { kind: "absent" };
  expect(work()).toMatchObject({ pass: true });
  expect(work()).toEqual({
    steps: [],
    script: "",
    names: { put: [], remove: [] },
    pass: false,
  });
});

describe("of one container", () => {
  test("that comes, its own records are written, told, and let in", () => {
    said(2, [container(2, 50)]);
    const { mac, ipv4 } = endpoint(2, 50);
    expect(work()).toEqual({
      steps: [{ kind: "putRemotes", remotes: [{ mac, vtep: vtepOf(2), ips: [ipv4] }] }],
      script: "add element inet t speakers { 198.51.100.2 . 256 . 0x02420ac00232 . 0x0ac00232 }",
      names: { put: [expect.objectContaining({ names: ["c50"] })], remove: [] },
      pass: true,
    });
  });

  test("that goes, its own records go", () => {
    said(3, [], [endpoint(3, 7)]);
    const { id, mac, ipv4 } = endpoint(3, 7);
    expect(work()).toEqual({
      steps: [
        { kind: "removeFdb", entries: [{ mac, vtep: vtepOf(3) }] },
        { kind: "removeNeighbours", ips: [ipv4] },
      ],
      script: "delete element inet t speakers { 198.51.100.3 . 256 . 0x02420ac00307 . 0x0ac00307 }",
      names: { put: [], remove: [id] },
      pass: true,
    });
  });

  test.each([
    ["has another name", { names: ["db"] }],
    ["is unhealthy", { names: ["c5"], out: "unhealthy" }],
  ])("that %s, nobody but the name server hears", (_, change) => {
    for (const k of [1, 2]) {
      said(k, [{ ...endpoint(k, 5), ...change }]);
      expect(work()).toEqual({
        steps: [],
        script: "",
        names: { put: [expect.objectContaining(change)], remove: [] },
        pass: false,
      });
    }
  });
});

/** Of which there are as many as containers that start in a second, anywhere. */
describe("a revision of the state", () => {
  const other: NetworkRecord = { ...app, id: NetworkId.parse("0b".repeat(16)) };
  const goesOn = (change: Partial<ClusterState>): void =>
    void tables.mergeState({ ...tables.state!, revision: tables.state!.revision + 1, ...change });
  const block = (network: NetworkRecord, text: string): BlockRecord => ({
    network: network.id,
    block: Cidr.parse(text),
    node: nodeId(3),
  });

  test("that gives a block of another network leaves what was read of this one as it is", () => {
    const reading = readNetwork(tables, app);
    goesOn({ blocks: [...tables.state!.blocks, block(other, "10.9.1.0/24")] });
    expect(readNetwork(tables, app)).toBe(reading);
    goesOn({ settings: { ...tables.state!.settings } });
    expect(readNetwork(tables, app)).toBe(reading);
    expect(readAnew(tables, app)).toBe(true);
  });

  test("that gives one of this network costs those whose addresses are in it, and no other", () => {
    const [first, second, third] = readNetwork(tables, app).byHost;
    // Of the second host's, the more specific one is the third's now.
    const [ip] = second!.addressed[4]!.ips;
    goesOn({ blocks: [...tables.state!.blocks, block(app, `${ip}/32`)] });
    const { byHost, ignored } = readNetwork(tables, app);
    expect([byHost[0], byHost[2]]).toEqual([first, third]);
    expect(byHost[0]).toBe(first);
    expect(byHost[2]).toBe(third);
    const stayed = second!.holders.toSpliced(4, 1);
    expect(byHost[1]!.holders.every((holder, i) => holder === stayed[i])).toBe(true);
    expect(byHost[1]!.holders).toHaveLength(stayed.length);
    expect(ignored).toMatchObject([{ node: nodeId(2), reason: "not-in-block" }]);
    expect(readAnew(tables, app)).toBe(true);
  });
});

/** A list that is changed where it is, which no code may do: what is kept of it cannot know. */
describe("a fault of what keeps is found by the whole, and mended", () => {
  const changeInPlace = (): void => {
    tables.documents(app.id).get(nodeId(2))!.endpoints.pop();
    expect(work()).toMatchObject({ pass: false });
  };

  test("in the reading of documents", () => {
    expect(readAnew(tables, app)).toBe(true);
    changeInPlace();
    expect(readAnew(tables, app)).toBe(false);
    expect(readAnew(tables, app)).toBe(true);
    expect(work()).toMatchObject({ steps: [{ kind: "removeFdb" }, { kind: "removeNeighbours" }] });
  });

  test("in the elements of guards, and in names", () => {
    const { holders, addressed } = readNetwork(tables, app).byHost[1]!;
    expect([elements.isWhole(), told.correction()]).toEqual([true, undefined]);
    (addressed as unknown[]).pop();
    (holders as unknown[]).pop();
    expect(elements.isWhole()).toBe(false);
    expect(told.correction()).toEqual({ put: [], remove: [container(2, 21).id] });
    expect(told.correction()).toBeUndefined();
  });
});
