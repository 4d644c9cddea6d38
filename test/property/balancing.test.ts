import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { chosenMember } from "../../agent/core/balancing/chosen-member.ts";
import { clientTable, NO_SERVICES } from "../../agent/core/balancing/client-table.ts";
import { addressKey, type Fate, fateOf, leftKeys } from "../../agent/core/balancing/left-behind.ts";
import type { ServiceMember } from "../../agent/core/balancing/service.ts";
import { changeScript } from "../../agent/core/balancing/table-script.ts";
import { Ip, ipToBytes } from "../../shared/ip.ts";
import { addressesOf, anyServices, memberOf, service, VIP, VIP6 } from "../support/services.ts";

const named = (count: number): { endpoint: string }[] =>
  Array.from({ length: count }, (_, i) => ({ endpoint: `endpoint-${i}` }));
const clients = Array.from({ length: 600 }, (_, i) => `client-${i}`);

describe("the member of a sticky client", () => {
  test("each member has its part of the clients", () => {
    const members = named(5);
    for (const { endpoint } of members) {
      const own = clients.filter((client) => chosenMember(client, members)?.endpoint === endpoint);
      expect(own.length).toBeGreaterThan(clients.length / 10);
    }
  });

  test("one that goes moves its own clients alone, whatever the order of the others", () => {
    const members = named(7);
    for (const client of clients) {
      const before = chosenMember(client, members);
      const fewer = members.slice(1);
      const after = chosenMember(client, fewer);
      if (before !== members[0]) expect(after).toBe(before);
      expect(chosenMember(client, fewer.toReversed())).toBe(after);
    }
  });
});

describe("a client's table", () => {
  test("new connections go to ready members with that family alone; each address has one end", () => {
    fc.assert(
      fc.property(anyServices, (services) => {
        const { services: chains, ends, left } = clientTable(services, "client");
        const ready = new Set(
          services.flatMap(({ members }) =>
            members
              .filter(({ state }) => state === "ready")
              .flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]),
          ),
        );
        for (const [virtual, members] of chains) {
          expect(ends.get(virtual)).toBe("refused");
          for (const member of members) {
            expect(ready).toContain(member);
            expect(member.includes(":")).toBe(virtual.includes(":"));
          }
        }
        for (const address of left.gone) expect(ready).not.toContain(address);
      }),
    );
  });

  test("from a table to itself nothing is to be done", () => {
    fc.assert(
      fc.property(anyServices, (services) => {
        const table = clientTable(services, "client");
        const again = clientTable([...services].toReversed(), "client");
        expect(changeScript(table, clientTable(services, "client"))).toBeUndefined();
        if (new Set(services.flatMap(({ ipv4 }) => ipv4 ?? [])).size === services.length)
          expect(changeScript(table, again)).toBeUndefined();
      }),
    );
  });

  test("a change of members names that service alone", () => {
    const other = service([memberOf(5)], { ipv4: Ip.parse("198.51.100.201"), ipv6: undefined });
    const before = clientTable([service([memberOf(2), memberOf(3)]), other], "client");
    const after = clientTable([service([memberOf(2), memberOf(3, "draining")]), other], "client");
    const script = changeScript(before, after)!;
    expect(script.match(/^\w+ \w+/gm)).toEqual([
      "flush chain",
      "flush chain",
      "add rule",
      "add rule",
    ]);
    expect(script).toContain(`v_${VIP} dnat ip to ${addressesOf(2).ipv4}`);
    expect(script).toContain(`v_${VIP6.replaceAll(":", "-")} dnat ip6 to ${addressesOf(2).ipv6}`);
  });

  test("an address that two services claim is the first's", () => {
    const table = clientTable([service([memberOf(2)]), service([memberOf(3)])], "client");
    expect(table.services.get(VIP)).toEqual([addressesOf(2).ipv4]);
  });

  test("without services there is none", () => {
    expect(NO_SERVICES.services.size + NO_SERVICES.ends.size).toBe(0);
  });
});

describe("what conntrack keeps", () => {
  test("an address's bytes, without a parser", () => {
    const some = fc.oneof(fc.ipV4(), fc.ipV6()).map((text) => Ip.parse(text));
    fc.assert(
      fc.property(some, (address) => {
        expect(addressKey(address)).toBe(Buffer.from(ipToBytes(address)).toString("hex"));
      }),
    );
  });

  const [TCP, UDP] = [6, 17];
  test.each<[ServiceMember["state"] | "gone", Fate, Fate, Fate, Fate]>([
    // state, then what becomes of TCP unanswered, TCP answered, UDP unanswered, UDP answered
    ["ready", undefined, undefined, undefined, undefined],
    ["draining", undefined, undefined, "forget", undefined],
    ["unreachable", "forget", undefined, "forget", undefined],
    ["gone", "forget", "reset", "forget", "forget"],
  ])("of a member that is %s", (state, ...expected) => {
    const table =
      state === "gone"
        ? clientTable([service([], { gone: [addressesOf(2)] })], "client")
        : clientTable([service([memberOf(2, state), memberOf(3)])], "client");
    const left = leftKeys(table.left);
    const entry = { meant: addressKey(VIP), answers: addressKey(addressesOf(2).ipv4) };
    const found = [TCP, UDP].flatMap((protocol) =>
      [false, true].map((replied) => fateOf({ ...entry, protocol, replied }, left)),
    );
    expect(found).toEqual(expected);
    // Who dials the member itself has no other to go to.
    const direct = { ...entry, meant: entry.answers, protocol: UDP, replied: false };
    expect(fateOf(direct, left)).toBeUndefined();
  });
});
