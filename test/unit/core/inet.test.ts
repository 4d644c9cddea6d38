import { expect, test } from "vitest";
import {
  desiredInet,
  inetDifference,
  inetFaults,
  missingRoutes,
  missingRouteText,
  type Route,
  routesWith,
  ruleDifference6,
  ruleFaults6,
} from "../../../agent/core/data-plane/inet.ts";
import { Cidr, Ip } from "../../../shared/ip.ts";

const address = { ip: Ip.parse("198.19.0.1"), prefixLength: 16, link: 7 };
const desired = desiredInet([address]);
const faults = (actual: Partial<typeof desired>): string[] =>
  inetFaults(inetDifference({ ...desired, ...actual }, desired));
const route = (changes: Partial<Route>): Route => ({ ...desired.routes[1]!, ...changes });

test("one address is a route to itself, one to its subnet, and the three rules that look them up", () => {
  expect(desired.routes.map(({ table, to }) => [table, to])).toEqual([
    [255, "198.19.0.1/32"],
    [254, "198.19.0.0/16"],
  ]);
  expect(desired.rules.map(({ priority }) => priority)).toEqual([0, 32_766, 32_767]);
  expect(faults({})).toEqual([]);
});

test("what the kernel adds by itself is no fault", () => {
  const broadcast = route({ type: 3, table: 255, to: Cidr.parse("198.19.255.255/32") });
  const loopback = route({ type: 2, table: 255, to: Cidr.parse("127.0.0.0/8"), link: 1 });
  expect(faults({ routes: [...desired.routes, broadcast, loopback] })).toEqual([]);
});

test.each<[string, Partial<typeof desired>, string[]]>([
  ["no address", { addresses: [] }, ["its address 198.19.0.1/16 is missing"]],
  ["no route", { routes: desired.routes.slice(0, 1) }, ["its route to 198.19.0.0/16 is missing"]],
  [
    "through another link",
    { routes: [desired.routes[0]!, route({ link: 8 })] },
    ["its route to 198.19.0.0/16 is missing", "there is a route to 198.19.0.0/16, not ours"],
  ],
  [
    "one more exact",
    { routes: [...desired.routes, route({ to: Cidr.parse("198.19.0.2/32"), type: 6, link: 0 })] },
    ["there is a route to 198.19.0.2/32, not ours"],
  ],
  ["no rule", { rules: desired.rules.slice(1) }, ["its routing rule 0 is missing"]],
  [
    "a rule for some packets",
    { rules: [{ ...desired.rules[0]!, plain: false }, ...desired.rules.slice(1)] },
    ["its routing rule 0 is missing", "there is a routing rule 0, not ours"],
  ],
])("%s", (_, actual, texts) => {
  expect(faults(actual)).toEqual(texts);
});

test("of IPv6 the routes of the address are asked for, and nothing is said of others", () => {
  const wanted = routesWith({ ip: Ip.parse("fd00:192::1"), prefixLength: 64, link: 7 });
  const all = missingRoutes([], wanted);
  expect(all.map(missingRouteText)).toEqual([
    "its route to fd00:192::1/128 is missing",
    "its route to fd00:192::/64 is missing",
  ]);
  const linkLocal = route({ to: Cidr.parse("fe80::/64"), link: 7 });
  expect(missingRoutes([...all, linkLocal], wanted)).toEqual([]);
  expect(missingRoutes([all[0]!, { ...all[1]!, link: 8 }], wanted)).toEqual([all[1]]);
});

test("of IPv6 the two rules of a namespace are asked for, and no other may come before its routes", () => {
  const kept = [0, 32_766].map((priority, i) => ({ priority, table: 255 - i, plain: true }));
  const stray = { priority: 9, table: 0, plain: true };
  expect(ruleFaults6(ruleDifference6(kept))).toEqual([]);
  expect(ruleFaults6(ruleDifference6([kept[1]!, stray]))).toEqual([
    "its routing rule 0 of IPv6 is missing",
    "there is a routing rule 9 of IPv6, not ours",
  ]);
});
