import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { NameTable } from "../../../agent/core/name-table.ts";
import type { Holder, NamedNetwork } from "../../../agent/core/names.ts";
import { applyChanges } from "../../../agent/dns/apply-changes.ts";
import type { TableChange } from "../../../agent/dns/port.ts";
import type { NetworkId } from "../../../shared/ids.ts";
import { Ip } from "../../../shared/ip.ts";
import { holder, holders, net, network } from "../../support/names.ts";

function table(...changes: TableChange[]): NameTable {
  const names = new NameTable();
  applyChanges(names, changes);
  return names;
}

const ips = (names: NameTable, scope: number[], name: string, family: 4 | 6 = 4) =>
  names.find(scope.map(net), name, family)?.ips;

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

  test("the first network by name that has a holder to give answers alone", () => {
    const names = table(
      network(1, "zoo"),
      network(2, "app"),
      holders(1, [holder(1, ["db"])]),
      holders(2, [holder(2, ["db"])]),
    );
    expect(ips(names, [1, 2], "db")).toEqual(["10.192.0.2"]);
    expect(ips(names, [1], "db")).toEqual(["10.192.0.1"]);
    expect(ips(names, [1, 2], "db.zoo")).toEqual(["10.192.0.1"]);
    applyChanges(names, [holders(2, [holder(2, ["db"], { out: "paused" })])]);
    expect(ips(names, [1, 2], "db")).toEqual(["10.192.0.1"]);
  });

  test("a network without a name yet has its names, and no qualified ones", () => {
    const names = table(network(1, undefined), holders(1, [holder(1, ["db"])]));
    expect(ips(names, [1], "db")).toEqual(["10.192.0.1"]);
    expect(names.reverse([net(1)], Ip.parse("10.192.0.1"))).toBe("db");
    applyChanges(names, [network(1, "app")]);
    expect(ips(names, [1], "db.app")).toEqual(["10.192.0.1"]);
    expect(names.reverse([net(1)], Ip.parse("10.192.0.1"))).toBe("db.app");
  });

  test("complete is what is complete everywhere", () => {
    const names = table(network(1, "app"), network(2, "new", false));
    expect(names.complete([net(1)])).toBe(true);
    expect(names.complete([net(1), net(2)])).toBe(false);
    expect(names.complete([net(1), net(3)])).toBe(false);
    expect(names.complete([])).toBe(true);
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
    } else {
      const of = this.networks.get(change.network);
      if (of === undefined) return;
      const replaced = new Set([...change.remove, ...change.put.map(({ endpoint }) => endpoint)]);
      of.holders = [...of.holders.filter(({ endpoint }) => !replaced.has(endpoint)), ...change.put];
    }
  }

  find(scope: readonly NetworkId[], name: string, family: 4 | 6): Set<Ip> | undefined {
    const inOrder = scope
      .flatMap((id) => this.networks.get(id) ?? [])
      .sort((a, b) => ((a.info.name ?? a.info.network) < (b.info.name ?? b.info.network) ? -1 : 1));
    let known = false;
    for (const { info, holders } of inOrder) {
      const same = holders.filter(
        ({ names }) => names.includes(name) || names.some((own) => `${own}.${info.name}` === name),
      );
      // A name of one that is also another's in full is the former's.
      const own = same.filter(({ names }) => names.includes(name));
      const meant = own.length > 0 ? own : same;
      known ||= meant.length > 0;
      const up = meant.filter(({ out }) => out === undefined);
      if (up.length === 0) continue;
      const ips = up.flatMap((holder) => holder.ips);
      return new Set(ips.filter((ip) => ip.includes(":") === (family === 6)));
    }
    return known ? new Set() : undefined;
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
        (changes, scope) => {
          const names = table(...changes);
          const naive = new NaiveTable();
          for (const one of changes) naive.apply(one);
          const ids = scope.map(net);
          for (const name of [...NAMES, "web.b2", "db.zoo3", "a.app", "db.app.app", "nobody"])
            for (const family of [4, 6] as const) {
              const found = names.find(ids, name, family)?.ips;
              const expected = naive.find(ids, name, family);
              expect(found && new Set(found)).toEqual(expected);
              expect(found?.length).toBe(expected?.size);
              expect(names.knows(ids, name)).toBe(expected !== undefined);
            }
          for (const k of [1, 2, 3, 4, 5, 6]) {
            const ip = Ip.parse(`10.1.0.${k}`);
            const held = ids.some((id) =>
              naive.networks.get(id)?.holders.some((holder) => holder.ips.includes(ip)),
            );
            expect(names.reverse(ids, ip) !== undefined).toBe(held);
          }
        },
      ),
      { numRuns: 400 },
    );
  });
});
