import { describe, expect, test } from "vitest";
import {
  concerns,
  difference,
  type Happening,
  NAMES_TOLD,
} from "../../../agent/core/events/events.ts";
import { NOTHING_SEEN, type SeenHolder, type View } from "../../../agent/core/events/view.ts";
import { Ip } from "../../../shared/ip.ts";
import { app, endpoint, nodeId } from "../../support/cluster.ts";

const [h1, h2] = [nodeId(1), nodeId(2)];
const { id } = endpoint(2, 5);
const ips = ["10.192.2.5", "10.192.2.6"].map((ip) => Ip.parse(ip));
const db: SeenHolder = { names: ["db"], ips: ips.slice(0, 1), state: "in" };

/** `app` with one container of h2. */
function view(holder: SeenHolder | undefined, changes: Partial<View> = {}): View {
  const holders = new Map(holder === undefined ? [] : [[h2, new Map([[id, holder]])]]);
  return {
    ...NOTHING_SEEN,
    hosts: new Map([
      [h1, { name: "h1", lost: false }],
      [h2, { name: "h2", lost: false }],
    ]),
    networks: new Map([[app.id, { name: "app", removed: false, holders }]]),
    ...changes,
  };
}

const of = { network: "app", id: app.id, host: "h2", node: h2, endpoint: id };

describe("what happened to a holder", () => {
  const unhealthy = { ...db, state: "unhealthy" };
  test.each<[string, SeenHolder | undefined, SeenHolder | undefined, object[]]>([
    ["it came", undefined, db, [{ kind: "in", ...of, ...db }]],
    ["it came and is out", undefined, unhealthy, [{ kind: "out", ...of, ...unhealthy }]],
    ["it went out", db, unhealthy, [{ kind: "out", ...of, ...unhealthy }]],
    ["it came back", unhealthy, db, [{ kind: "in", ...of, ...db }]],
    [
      "it is out for another reason",
      unhealthy,
      { ...db, state: "paused" },
      [{ kind: "out", ...of, ...db, state: "paused" }],
    ],
    [
      "another name",
      db,
      { ...db, names: ["db2"] },
      [{ kind: "changed", ...of, ...db, names: ["db2"] }],
    ],
    ["another address", db, { ...db, ips }, [{ kind: "changed", ...of, ...db, ips }]],
    ["it went", db, undefined, [{ kind: "gone", ...of, names: db.names, ips: db.ips }]],
    ["said again", db, { ...db, names: [...db.names] }, []],
    ["nothing", db, db, []],
  ])("%s", (_, was, is, happened) => {
    expect(difference(view(was), view(is))).toEqual(happened);
  });

  test("of a host that has just left, by the name it had", () => {
    const hosts = new Map([[h1, { name: "h1", lost: false }]]);
    expect(difference(view(db), view(undefined, { hosts }))).toEqual([
      { kind: "host-left", host: "h2", node: h2 },
      expect.objectContaining({ kind: "gone", host: "h2" }),
    ]);
  });
});

test("a host that is not reached takes its names out in one event, of which some are told", () => {
  const many = new Map(
    Array.from({ length: 40 }, (_, n) => [
      endpoint(2, n).id,
      { ...db, names: [`c${n}`], state: n === 0 ? "paused" : "in" },
    ]),
  );
  const networks = new Map([
    [app.id, { name: "app", removed: false, holders: new Map([[h2, many]]) }],
  ]);
  const before = view(undefined, { networks });
  const hosts = new Map([...before.hosts, [h2, { name: "h2", lost: true }]]);
  const [lost, ...rest] = difference(before, { ...before, hosts });
  expect(rest).toEqual([]);
  expect(lost).toMatchObject({ kind: "host-unreachable", holds: [{ network: "app", count: 39 }] });
  const names = lost?.kind === "host-unreachable" ? lost.holds[0]?.names : undefined;
  expect(names).toHaveLength(NAMES_TOLD);
  expect(concerns(lost!, "app")).toBe(true);
  expect(concerns(lost!, "web")).toBe(false);
});

test("a problem is told when it begins, becomes another, and is over", () => {
  const failing = (message?: string): View => {
    const problem = { what: "kernel" as const, network: app.id, message: message ?? "" };
    return view(db, { problems: new Map(message === undefined ? [] : [["kernel", problem]]) });
  };
  const told = (before: View, after: View): string[] =>
    difference(before, after).map((event) =>
      event.kind === "problem" ? event.message : event.kind,
    );
  expect(told(failing(), failing("EPERM"))).toEqual(["EPERM"]);
  expect(told(failing("EPERM"), failing("EPERM"))).toEqual([]);
  expect(told(failing("EPERM"), failing("EBUSY"))).toEqual(["EBUSY"]);
  expect(told(failing("EBUSY"), failing())).toEqual(["recovered"]);
});

test.each<[Happening, string, boolean]>([
  [{ kind: "gone", ...of, names: [], ips: [] }, "app", true],
  [{ kind: "gone", ...of, names: [], ips: [] }, app.id, true],
  [{ kind: "gone", ...of, names: [], ips: [] }, "h2", false],
  [{ kind: "recovered", what: "guards" }, "app", false],
  [{ kind: "recovered", what: "kernel", network: "app", id: app.id }, "app", true],
  [{ kind: "host-joined", host: "app", node: h2 }, "app", false],
  [{ kind: "guards-tampered", times: 1 }, "app", false],
])("%j concerns %s: %s", (event, network, does) => {
  expect(concerns(event, network)).toBe(does);
});
