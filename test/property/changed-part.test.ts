import fc from "fast-check";
import { expect, test } from "vitest";
import { changedGroups, changedPart } from "../../agent/core/data-plane/changed-part.ts";
import type { Addressed, DesiredGuards } from "../../agent/core/data-plane/kernel-state.ts";
import { holdersOf, type Holder, type NamedHost } from "../../agent/core/names/names.ts";
import { ToldHolders } from "../../agent/core/names/told-holders.ts";
import { GuardElements, scriptOf, SETS, type Sets } from "../../agent/kernel/nft/guard-sets.ts";
import { Cidr } from "../../shared/ip.ts";
import type { EndpointId } from "../../shared/ids.ts";
import { app, endpoint, nodeId, vtepOf, withIpv6 } from "../support/cluster.ts";

/** What is told of a change, from the part of two lists in which they differ, makes of the one the other. */

const list = fc.array(fc.nat(12), { maxLength: 12 });

test("what is before and after the changed part is in both, and the part is what is between", () => {
  fc.assert(
    fc.property(list, list, (before, after) => {
      const part = changedPart(before, after);
      const shared = before.length - part.before.length;
      expect(after.length - part.after.length).toBe(shared);
      expect(before.slice(part.start, part.start + part.before.length)).toEqual(part.before);
      // Whatever is the least of changes, one that begins and ends with what differs.
      const [first, last] = [0, -1];
      if (part.before.length > 0 && part.after.length > 0)
        expect([part.before.at(first), part.before.at(last)]).not.toEqual([
          part.after.at(first),
          part.after.at(last),
        ]);
      expect(before.toSpliced(part.start, part.before.length, ...part.after)).toEqual(after);
    }),
    { numRuns: 1000 },
  );
});

/** Lists of hosts, some of which stay the same object while others change. */
const hosts = <T>(members: readonly T[]) => {
  const lists = fc.array(fc.uniqueArray(fc.nat(members.length - 1), { maxLength: 5 }), {
    minLength: 4,
    maxLength: 4,
  });
  const step = fc.record({ of: fc.nat(3), to: lists, there: fc.subarray([0, 1, 2, 3]) });
  return fc.array(step, { maxLength: 10 }).map((steps) => {
    const held: (readonly T[])[] = [[], [], [], []];
    return steps.map(({ of, to, there }) => {
      held[of] = to[of]!.map((n) => members[n]!);
      return there.map((k) => ({ k, members: held[k]! }));
    });
  });
};

test("in groups the same, however many of them come, go or change", () => {
  const numbers = Array.from({ length: 12 }, (_, n) => n);
  const flat = (groups: readonly { k: number; members: readonly number[] }[]): string[] =>
    groups.flatMap(({ k, members }) => members.map((n) => `${k} ${n}`));
  let parts = 0;
  fc.assert(
    fc.property(hosts(numbers), (steps) => {
      for (const [i, after] of steps.entries()) {
        const before = steps[i - 1] ?? [];
        const changed = changedGroups(before, after, (a, b) => a.k === b.k);
        const [gone, come] = [flat(changed.before), flat(changed.after)];
        const left = flat(before).filter((each) => !gone.includes(each));
        expect([...left, ...come].toSorted()).toEqual(flat(after).toSorted());
        if (gone.length + come.length < flat(before).length + flat(after).length) parts++;
      }
    }),
    { numRuns: 500 },
  );
  // Mostly less than all of them.
  expect(parts).toBeGreaterThan(100);
});

/** Of some endpoints two hosts say that they have them, and an endpoint is another object when it has changed. */
const named = Array.from({ length: 13 }, (_, n) => ({
  node: nodeId(1),
  ips: [],
  endpoint: {
    ...endpoint(1, n),
    id: String(n % 9) as EndpointId,
    names: n === 12 ? [] : [`c${n}`],
  },
}));

test("who knows the holders before knows those after, by what is put and removed", () => {
  const lost = fc.array(fc.subarray([0, 1, 2, 3]), { minLength: 10, maxLength: 10 });
  const left: Holder[] = ["c1", "c20"].map((name, n) => ({
    endpoint: String(n === 0 ? 1 : 20) as EndpointId,
    node: nodeId(9),
    names: [name],
    ips: [],
    out: "gone",
  }));
  fc.assert(
    fc.property(hosts(named), lost, fc.array(fc.subarray(left)), (steps, losses, gone) => {
      const told = new ToldHolders();
      const known = new Map<EndpointId, Holder>();
      for (const [i, each] of steps.entries()) {
        const now = each.map(({ k, members }): NamedHost => ({
          node: nodeId(k + 1),
          unhealthyNames: "leave-out",
          isLost: losses[i]!.includes(k),
          members,
        }));
        const { put, remove } = told.change(now, () => gone[i] ?? []);
        for (const endpoint of remove) expect(known.delete(endpoint)).toBe(true);
        for (const holder of put) {
          expect(known.get(holder.endpoint)).not.toEqual(holder);
          known.set(holder.endpoint, holder);
        }
        const whole = [...now.flatMap(holdersOf), ...(gone[i] ?? [])];
        expect(known).toEqual(new Map(whole.map((holder) => [holder.endpoint, holder])));
        expect(told.correction()).toBeUndefined();
      }
    }),
    { numRuns: 500 },
  );
});

const guards: DesiredGuards = {
  underlayFamily: 4,
  classPorts: { plain: 7948, wireguard: 7949, ipsec: 7950 },
  meshPorts: [7947],
  ipsec: false,
  vteps: [],
  hosting: [],
  speakers: [],
  exposed: [],
  sealed: [],
};

test("the elements of all sets before are those after, by what is added and deleted", () => {
  // Two of them say the same: what is named twice goes with the last that names it.
  const members = Array.from({ length: 12 }, (_, n): Addressed => {
    const { mac, ipv4, ipv6 } = withIpv6(endpoint(2, n === 11 ? 2 : n + 1));
    return { mac, ips: n % 2 === 0 ? [ipv4!] : [ipv4!, ipv6!] };
  });
  const subnets = ["10.1.0.0/16", "10.2.0.0/16", "10.3.0.1/32", "fd00::/64"].map((text) =>
    Cidr.parse(text),
  );
  let written = 0;
  fc.assert(
    fc.property(
      hosts(members),
      hosts(members),
      fc.array(fc.subarray(subnets)),
      (speaking, exposed, sealed) => {
        const kernel = Object.fromEntries(SETS.map((name) => [name, new Set<string>()]));
        const elements = new GuardElements(guards);
        for (const [i, each] of speaking.entries()) {
          // As many as one host in two has both addresses.
          const groups = each.map(({ k, ...rest }) => ({
            vtep: vtepOf(2 + (k % 2)),
            vni: app.vni,
            ...rest,
          }));
          const now: DesiredGuards = {
            ...guards,
            vteps: groups.map(({ vtep }) => vtep),
            hosting: groups.map(({ vtep, vni }) => ({ vtep, vni })),
            speakers: groups,
            exposed: (exposed[i] ?? []).map((group) => ({
              vtep: vtepOf(1),
              vni: app.vni,
              members: group.members,
            })),
            sealed: sealed[i] ?? [],
          };
          written += carryOut(kernel, scriptOf("t", elements.changesTo(now)));
          elements.written(now);
          const whole = new GuardElements(now).all();
          for (const name of SETS)
            expect([name, kernel[name]]).toEqual([name, new Set(whole[name])]);
          expect(elements.isWhole()).toBe(true);
        }
      },
    ),
    { numRuns: 500 },
  );
  expect(written).toBeGreaterThan(500);
});

/** As nft does: what is there is not added, what is not there is not deleted. @returns how many elements */
function carryOut(kernel: Record<string, Set<string>>, script: string): number {
  let count = 0;
  for (const line of script.split("\n").filter((each) => each !== "")) {
    const [, verb, name, all] = /^(add|delete) element inet t (\w+) \{ (.*) \}$/.exec(line)!;
    const set = kernel[name as keyof Sets]!;
    for (const element of all!.split(", ")) {
      count++;
      expect([verb, element, set.has(element)]).toEqual([verb, element, verb === "delete"]);
      if (verb === "add") set.add(element);
      else set.delete(element);
    }
  }
  return count;
}
