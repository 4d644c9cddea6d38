import { describe, expect, test } from "vitest";
import { membersOf } from "../../../agent/core/names/members.ts";
import { nameRows } from "../../../agent/core/names/name-rows.ts";
import { holdersOf, namedHosts } from "../../../agent/core/names/names.ts";
import { changeOwn } from "../../../agent/core/tables/own-documents.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import type { Endpoint } from "../../../shared/documents.ts";
import { Ip } from "../../../shared/ip.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { app, clusterState, endpoint, hashSigner, nodeId } from "../../support/cluster.ts";

function tablesWith(documents: Readonly<Record<number, Endpoint[]>>, revoked: number[] = []) {
  const tables = new Tables();
  tables.mergeState(clusterState(3, { revoked: revoked.map(nodeId) }));
  for (const [k, endpoints] of Object.entries(documents)) {
    const node = nodeId(Number(k));
    const own = { node, hasher: sha256, signer: hashSigner(node) };
    tables.mergeNetwork(changeOwn(own, app.id, undefined, endpoints, []).document);
  }
  return tables;
}

const NOBODY = new Set<never>();
const db = (changes: Partial<Endpoint> = {}): Endpoint => ({
  ...endpoint(2, 5),
  names: ["db"],
  ...changes,
});

describe("a member's state", () => {
  test.each<[string, Partial<Endpoint>, string, string]>([
    ["well", {}, "in", "in"],
    ["starting", { out: "starting" }, "starting", "in"],
    ["unhealthy", { out: "unhealthy" }, "unhealthy", "in"],
    ["paused", { out: "paused" }, "paused", "paused"],
    ["stopping", { out: "stopping" }, "stopping", "stopping"],
    ["as a later version says", { out: "draining" }, "draining", "draining"],
    ["at another's address", { ipv4: Ip.parse("10.192.3.5") }, "not-in-block", "not-in-block"],
    ["at the gateway's", { ipv4: Ip.parse("10.192.0.1") }, "gateway", "gateway"],
  ])("%s", (_, changes, state, including) => {
    const tables = tablesWith({ 2: [db(changes)] });
    const stateOn = (record: typeof app): string | undefined =>
      membersOf(tables, record, NOBODY)[0]?.state;
    expect(stateOn(app)).toBe(state);
    expect(stateOn({ ...app, unhealthyNames: "include" })).toBe(including);
  });

  test("on a host that is not reached; the rule it breaks is said first", () => {
    const lost = new Set([nodeId(2)]);
    const states = (tables: Tables): string[] =>
      membersOf(tables, app, lost).map(({ state }) => state);
    const liar = { ...db({ ipv4: Ip.parse("10.192.3.5") }), id: endpoint(2, 6).id };
    expect(states(tablesWith({ 2: [db({ out: "paused" }), liar], 3: [endpoint(3, 5)] }))).toEqual([
      "unreachable",
      "not-in-block",
      "in",
    ]);
  });

  test("is none on a host that was removed", () => {
    expect(membersOf(tablesWith({ 2: [db()] }), app, NOBODY)).toHaveLength(1);
    expect(membersOf(tablesWith({ 2: [db()] }, [2]), app, NOBODY)).toEqual([]);
  });

  test("is in exactly when the name server would answer with it", () => {
    const outs = [undefined, "starting", "unhealthy", "paused", "draining"];
    const list = outs.map((out, n) => ({
      ...endpoint(2, n + 1),
      names: [`c${n}`],
      ...(out === undefined ? {} : { out }),
    }));
    const tables = tablesWith({ 2: list, 3: [{ ...endpoint(3, 1), names: ["c9"] }] });
    for (const record of [app, { ...app, unhealthyNames: "include" as const }])
      for (const lost of [NOBODY, new Set([nodeId(2)])]) {
        const served = namedHosts(tables, record, lost)
          .flatMap(holdersOf)
          .filter(({ out }) => out === undefined);
        const shown = membersOf(tables, record, lost).filter(({ state }) => state === "in");
        expect(shown.map(({ endpoint: { id } }) => id)).toEqual(
          served.map(({ endpoint: id }) => id),
        );
      }
  });
});

describe("rows of names", () => {
  test("are one a name and holder, in order, canonical", () => {
    const tables = tablesWith({
      3: [{ ...endpoint(3, 5), names: ["WEB-1.", "web", "no name!"] }],
      2: [db(), { ...endpoint(2, 6), names: ["web-2", "web"] }, endpoint(2, 7)],
    });
    const rows = nameRows(tables, app, NOBODY);
    expect(rows.map(({ name, host, container }) => [name, host, container])).toEqual([
      ["db", "h2", "db"],
      ["web", "h2", "web-2"],
      ["web", "h3", "web-1"],
      ["web-1", "h3", "web-1"],
      ["web-2", "h2", "web-2"],
    ]);
  });

  test("know a short id from a container that is called so", () => {
    const short = "0123456789ab";
    const tables = tablesWith({
      2: [db({ names: ["db", short] }), { ...endpoint(2, 6), names: [short] }],
    });
    const rows = nameRows(tables, app, NOBODY).filter(({ name }) => name === short);
    expect(rows.map(({ container, shortId }) => [container, shortId])).toEqual([
      ["db", true],
      [short, false],
    ]);
  });
});
