import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Attached, NameTable, type Scope } from "../../../agent/core/names/name-table.ts";
import { GoneNames } from "../../../agent/core/names/gone-names.ts";
import type { Holder, NamedNetwork } from "../../../agent/core/names/names.ts";
import { applyChanges } from "../../../agent/names/server/apply-changes.ts";
import type { TableChange } from "../../../agent/names/server/port.ts";
import type { NetworkId } from "../../../shared/ids.ts";
import { Ip } from "../../../shared/ip.ts";
import { holder, holders, net, network, on } from "../../support/names.ts";

function table(...changes: TableChange[]): NameTable {
  const names = new NameTable();
  applyChanges(names, changes);
  return names;
}

const ips = (names: NameTable, scope: number[], name: string, family: 4 | 6 = 4) =>
  names.find(
    scope.map((k) => on(k)),
    name,
    family,
  )?.ips;

describe("whose addresses a name has", () => {
  test("of all that hold it, each first in its turn, by family", () => {
    const both = [Ip.parse("10.1.0.2"), Ip.parse("fd00::2")];
    const names = table(
      network(1, "app"),
      holders(1, [holder(1, ["web"]), holder(2, ["web"], { ips: both }), holder(3, ["web"])]),
    );
    const first = Array.from({ length: 4 }, () => {
      // As libc does: both families are asked for, and neither turns the other.
      ips(names, [1], "web", 6);
      return ips(names, [1], "web")?.[0];
    });
    expect(first).toEqual(["10.192.0.1", "10.1.0.2", "10.192.0.3", "10.192.0.1"]);
    expect(ips(names, [1], "web", 6)).toEqual(["fd00::2"]);
  });

  test("nobody who is out, and nobody at all is an answer, not an unknown name", () => {
    const names = table(
      network(1, "app"),
      holders(1, [holder(1, ["db"]), holder(2, ["db"], { out: "unhealthy" })]),
    );
    expect(ips(names, [1], "db")).toEqual(["10.192.0.1"]);
    applyChanges(names, [holders(1, [holder(1, ["db"], { out: "of a later version" })])]);
    expect(ips(names, [1], "db")).toEqual([]);
    expect(ips(names, [1], "dbx")).toBeUndefined();
  });

  test("the first network by name that has it decides, also when it has nobody to give", () => {
    const names = table(
      network(1, "zoo"),
      network(2, "app"),
      holders(1, [holder(1, ["db"])]),
      holders(2, [holder(2, ["db"])]),
    );
    expect(ips(names, [1, 2], "db")).toEqual(["10.192.0.2"]);
    expect(ips(names, [1], "db")).toEqual(["10.192.0.1"]);
    expect(ips(names, [1, 2], "db.zoo")).toEqual(["10.192.0.1"]);
    applyChanges(names, [holders(2, [holder(2, ["db"], { out: "unhealthy" })])]);
    expect(ips(names, [1, 2], "db")).toEqual([]);
    expect(ips(names, [1, 2], "db.zoo")).toEqual(["10.192.0.1"]);
    applyChanges(names, [holders(2, [holder(2, ["other"])])]);
    expect(ips(names, [1, 2], "db")).toEqual(["10.192.0.1"]);
  });

  test("who asks finds itself, whatever its state; the others do not find it", () => {
    const two = [Ip.parse("10.192.0.2"), Ip.parse("fd00::2")];
    const names = table(
      network(1, "app"),
      network(2, "zoo"),
      holders(1, [
        holder(1, ["db1", "db"]),
        holder(2, ["db2", "db", "my.host"], { out: "starting", ips: two }),
      ]),
      holders(2, [holder(3, ["db2"])]),
    );
    const asked = (name: string, own: number, family: 4 | 6 = 4) =>
      names.find([on(1, own), on(2)], name, family)?.ips.toSorted();
    for (const name of ["db2", "my.host", "db2.app"]) {
      expect(asked(name, 2)).toEqual(["10.192.0.2"]);
      expect(asked(name, 2, 6)).toEqual(["fd00::2"]);
      expect(asked(name, 1)).toEqual([]);
    }
    expect(asked("db", 2)).toEqual(["10.192.0.1", "10.192.0.2"]);
    expect(asked("db", 1)).toEqual(["10.192.0.1"]);
    expect(names.reverse([on(1, 2)], Ip.parse("10.192.0.2"))).toBe("db2.app");
  });

  test("a link is for who has it, and comes before all names", () => {
    const names = table(
      network(1, "app"),
      network(2, "zoo"),
      holders(1, [
        holder(1, ["lv"]),
        holder(2, ["pg", "db"]),
        holder(3, ["out"], { out: "paused" }),
      ]),
      holders(2, [holder(4, ["db", "far"])]),
    );
    const links = { db: "lv", far: "out", none: "nobody" };
    const asked = (name: string) => names.find([on(1, 9, links), on(2)], name, 4)?.ips;
    expect(asked("db")).toEqual(["10.192.0.1"]);
    expect(asked("db.app")).toEqual(["10.192.0.1"]);
    expect(asked("db.zoo")).toEqual(["10.192.0.4"]);
    expect(asked("pg")).toEqual(["10.192.0.2"]);
    // Linked to one that is out, or not there: nobody, not the one who is called so elsewhere.
    expect(asked("far")).toEqual([]);
    expect(asked("none")).toEqual([]);
    expect(ips(names, [1, 2], "db")).toEqual(["10.192.0.2"]);
    const later = names.find([on(1), on(2, 9, { db: "far" })], "db", 4)?.ips;
    expect(later).toEqual(["10.192.0.4"]);
  });

  test("a network without a name yet has its names, and no qualified ones", () => {
    const names = table(network(1, undefined), holders(1, [holder(1, ["db"])]));
    expect(ips(names, [1], "db")).toEqual(["10.192.0.1"]);
    expect(names.reverse([on(1)], Ip.parse("10.192.0.1"))).toBe("db");
    applyChanges(names, [network(1, "app")]);
    expect(ips(names, [1], "db.app")).toEqual(["10.192.0.1"]);
    expect(names.reverse([on(1)], Ip.parse("10.192.0.1"))).toBe("db.app");
  });

  test("of a network not known in full yet a name may come, if it looks like one of ours", () => {
    const names = table(network(1, "app"), network(2, "new", false));
    const waits = (name: string, ...scope: number[]) =>
      names.find(
        scope.map((k) => on(k)),
        name,
        4,
        true,
      ) === "unknown";
    expect(waits("db", 1)).toBe(false);
    expect(waits("db", 1, 2)).toBe(true);
    expect(waits("db.new", 1, 2)).toBe(true);
    expect(waits("db.app", 1, 2)).toBe(false);
    expect(waits("registry.example.com", 1, 2)).toBe(false);
    expect(waits("db", 3)).toBe(true);
    expect(waits("db")).toBe(false);
    expect(names.find([on(2)], "db", 4)).toBeUndefined();
  });

  test("what such a network may have is not answered from one after it", () => {
    const names = table(
      network(1, "app", false),
      network(2, "zoo"),
      holders(2, [holder(2, ["db", "a.b"])]),
    );
    const patient = (name: string, links = {}) =>
      names.find([on(2, 9, links), on(1)], name, 4, true);
    expect(patient("db")).toBe("unknown");
    expect(patient("a.b")).toEqual({ ips: ["10.192.0.2"] });
    expect(patient("x", { x: "db" })).toEqual({ ips: ["10.192.0.2"] });
    expect(names.find([on(1, 9, { x: "db" })], "x", 4, true)).toBe("unknown");
    expect(ips(names, [1, 2], "db")).toEqual(["10.192.0.2"]);
    applyChanges(names, [network(1, "app")]);
    expect(patient("db")).toEqual({ ips: ["10.192.0.2"] });
    applyChanges(names, [network(2, "zoo", false)]);
    // Those after it do not decide.
    applyChanges(names, [holders(1, [holder(1, ["db"])])]);
    expect(patient("db")).toEqual({ ips: ["10.192.0.1"] });
  });
});

/** The rule again, as one reads it: no index, no turns. */
class NaiveTable {
  readonly networks = new Map<NetworkId, { info: NamedNetwork; holders: Holder[] }>();

  apply(change: TableChange): void {
    if (change.kind === "forget") this.networks.delete(change.network);
    else if (change.kind === "network") {
      const held = this.networks.get(change.info.network)?.holders ?? [];
      this.networks.set(change.info.network, { info: change.info, holders: held });
    } else if (change.kind === "holders") {
      const of = this.networks.get(change.network);
      if (of === undefined) return;
      const replaced = new Set([...change.remove, ...change.put.map(({ endpoint }) => endpoint)]);
      of.holders = [...of.holders.filter(({ endpoint }) => !replaced.has(endpoint)), ...change.put];
    }
  }

  find(scope: Scope, name: string, family: 4 | 6): Set<Ip> | undefined {
    const nameOf = ({ network }: Attached) =>
      this.networks.has(network) ? (this.networks.get(network)?.info.name ?? network) : "";
    const inOrder = scope.toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
    const given = ({ network, endpoint }: Attached, names: readonly string[]): Set<Ip> => {
      const { holders } = this.networks.get(network) ?? { holders: [] };
      const meant = holders.filter(
        (one) =>
          one.names.some((own) => names.includes(own)) &&
          (one.out === undefined || one.endpoint === endpoint),
      );
      const ips = meant.flatMap((one) => one.ips);
      return new Set(ips.filter((ip) => ip.includes(":") === (family === 6)));
    };
    const short = (network: NetworkId): string | undefined => {
      const suffix = `.${this.networks.get(network)?.info.name}`;
      return name.endsWith(suffix) ? name.slice(0, -suffix.length) : undefined;
    };
    for (const place of inOrder) {
      const target = place.links?.get(name) ?? place.links?.get(short(place.network) ?? name);
      if (target !== undefined) return given(place, [target]);
    }
    for (const place of inOrder) {
      const { holders } = this.networks.get(place.network) ?? { holders: [] };
      const has = (wanted: string | undefined) =>
        wanted !== undefined && holders.some(({ names }) => names.includes(wanted));
      // A name of one that is also another's in full is the former's.
      if (has(name)) return given(place, [name]);
      if (has(short(place.network))) return given(place, [short(place.network)!]);
    }
    return undefined;
  }
}

describe("property", () => {
  const NAMES = ["db", "web", "db.app", "a"] as const;
  // Of one endpoint always the same addresses: claims on an address are decided before.
  const someHolder = fc
    .record({
      k: fc.integer({ min: 1, max: 6 }),
      names: fc.subarray([...NAMES], { minLength: 1 }),
      out: fc.constantFrom(undefined, undefined, "unhealthy"),
      dual: fc.boolean(),
    })
    .map(({ k, names, out, dual }) => {
      const four = Ip.parse(`10.1.0.${k}`);
      return holder(k, names, { out, ips: dual ? [four, Ip.parse(`fd00::${k}`)] : [four] });
    });
  const some = fc.integer({ min: 1, max: 3 });
  const change: fc.Arbitrary<TableChange> = fc.oneof(
    fc
      .tuple(some, fc.constantFrom("app", "b", "zoo", undefined), fc.boolean())
      // Names of networks differ, as the controller sees to.
      .map(([k, name, complete]) => network(k, name && `${name}${k === 1 ? "" : k}`, complete)),
    fc
      .tuple(
        some,
        fc.uniqueArray(someHolder, { maxLength: 4, selector: ({ endpoint }) => endpoint }),
        fc.array(someHolder, { maxLength: 2 }),
      )
      .map(([k, put, remove]) =>
        holders(
          k,
          put,
          remove.map(({ endpoint }) => endpoint),
        ),
      ),
    some.map((k): TableChange => ({ kind: "forget", network: net(k) })),
  );

  test("after any changes, every question is answered as by the rule read aloud", () => {
    fc.assert(
      fc.property(
        fc.array(change, { maxLength: 30 }),
        fc.subarray([1, 2, 3], { minLength: 1 }),
        fc.integer({ min: 1, max: 7 }),
        fc.constantFrom({}, {}, { db: "web" }, { a: "nobody", "db.app": "db" }),
        (changes, scope, own, links) => {
          const names = table(...changes);
          const naive = new NaiveTable();
          for (const one of changes) naive.apply(one);
          const asker = scope.map((k) => on(k, own, k === 2 ? links : {}));
          for (const name of [...NAMES, "web.b2", "db.zoo3", "a.app", "db.app.app", "nobody"])
            for (const family of [4, 6] as const) {
              const found = names.find(asker, name, family)?.ips;
              const expected = naive.find(asker, name, family);
              expect(found && new Set(found)).toEqual(expected);
              expect(found?.length).toBe(expected?.size);
              expect(names.find(asker, name, undefined) !== undefined).toBe(expected !== undefined);
            }
          for (const k of [1, 2, 3, 4, 5, 6]) {
            const ip = Ip.parse(`10.1.0.${k}`);
            const held = asker.some(({ network: id }) =>
              naive.networks.get(id)?.holders.some((holder) => holder.ips.includes(ip)),
            );
            expect(names.reverse(asker, ip) !== undefined).toBe(held);
          }
        },
      ),
      { numRuns: 400 },
    );
  });
});

describe("holders that went", () => {
  const db = holder(1, ["db1", "0123456789ab", "db"]);
  const NONE = { before: [], after: [] };

  test("leave their names to nobody for two minutes, and short ids to all", () => {
    const gone = new GoneNames();
    const told = gone.after({ before: [db], after: [] }, 1000);
    expect(told).toEqual([{ ...db, names: ["db1", "db"], ips: [], out: "gone" }]);
    const names = table(
      network(1, "app"),
      network(2, "zoo"),
      holders(1, told),
      holders(2, [holder(2, ["db"])]),
    );
    expect(ips(names, [1, 2], "db")).toEqual([]);
    expect(names.reverse([on(1)], db.ips[0]!)).toBeUndefined();
    // Said again it is the same, and is not remembered anew.
    expect(gone.after(NONE, 5000)[0]).toBe(told[0]);
    expect(gone.nextMs()).toBe(121_000);
    expect(gone.after(NONE, 121_000)).toEqual([]);
    expect(gone.nextMs()).toBeUndefined();
  });

  test("are forgotten when they are back, and when they are too many, the first ones first", () => {
    const gone = new GoneNames();
    const told = gone.after({ before: [db], after: [] }, 0);
    expect(told).toHaveLength(1);
    expect(gone.after({ before: [], after: [db] }, 1)).toEqual([]);
    const many = Array.from({ length: 1010 }, (_, k) => holder(k, [`c${k}`]));
    const left = gone.after({ before: many, after: [] }, 2);
    expect(left).toHaveLength(1000);
    expect(left[0]?.names).toEqual(["c10"]);
    expect(gone.forgottenEarly).toBe(10);
  });
});
