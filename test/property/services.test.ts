import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  balance,
  type Balanced,
  type BalancedView,
  GONE_MS,
  NOTHING_BALANCED,
} from "../../agent/core/balancing/services.ts";
import type { Service } from "../../agent/core/balancing/service.ts";
import type { NamedHost } from "../../agent/core/names/names.ts";
import type { VipRecord } from "../../shared/cluster-state.ts";
import { addressesOf, type Endpoint } from "../../shared/documents.ts";
import { EndpointId } from "../../shared/ids.ts";
import { Cidr, Ip } from "../../shared/ip.ts";
import { ruleMac } from "../../shared/mac.ts";
import { app, nodeId } from "../support/cluster.ts";

const HOSTS = 3;
const NAMES = ["web", "db"];

function endpoint(id: number, address: number, names: readonly string[], out?: string): Endpoint {
  const ipv4 = Ip.parse(`10.7.0.${address}`);
  return {
    id: EndpointId.parse(id.toString(16).padStart(8, "0")),
    ipv4,
    ipv6: Ip.parse(`fd07::${address.toString(16)}`),
    mac: ruleMac(ipv4),
    names: [`c${id}`, ...names],
    ...(out === undefined ? {} : { out }),
  };
}

function host(
  k: number,
  endpoints: readonly Endpoint[],
  more: Partial<Pick<NamedHost, "isLost" | "unhealthyNames">> = {},
): NamedHost {
  const node = nodeId(k);
  return {
    node,
    unhealthyNames: "leave-out",
    isLost: false,
    members: endpoints.map((one) => ({ node, endpoint: one, ips: addressesOf(one) })),
    ...more,
  };
}

function vip(name: string, last = 200): VipRecord {
  return {
    network: app.id,
    name,
    ips: [Ip.parse(`10.7.0.${last}`), Ip.parse(`fd07::${last}`)],
    blocks: [Cidr.parse("10.7.0.200/29"), Cidr.parse("fd07::200/125")],
    sticky: false,
    madeBy: "cli",
  };
}

const states = (service: Service | undefined) =>
  Object.fromEntries(service?.members.map(({ ipv4, state }) => [ipv4, state]) ?? []);
const gone = (service: Service | undefined) => service?.gone.map(({ ipv4 }) => ipv4);

function run(views: readonly (readonly [BalancedView, number])[]): Balanced {
  return views.reduce((held, [view, nowMs]) => balance(held, view, nowMs), NOTHING_BALANCED);
}

const one = endpoint(1, 11, ["web"]);
const two = endpoint(2, 12, ["web"]);
const vips = [vip("web")];

describe("who is behind a virtual address", () => {
  test.each([
    ["one that runs", {}, "ready"],
    ["one that stops", { out: "stopping" }, "draining"],
    ["one that is paused", { out: "paused" }, "draining"],
    ["one whose health check fails", { out: "unhealthy" }, "draining"],
    ["one whose health check has not passed yet", { out: "starting" }, "draining"],
    ["one of a state to come", { out: "of-later" }, "draining"],
  ])("%s", (_, { out }: { out?: string }, state) => {
    const [service] = run([
      [{ vips, hosts: [host(1, [endpoint(1, 11, ["web"], out)])] }, 0],
    ]).services;
    expect(states(service)).toEqual({ "10.7.0.11": state });
  });

  test("with `dns.unhealthy=include` health does not count, a stop does", () => {
    const more = { unhealthyNames: "include" as const };
    const endpoints = ["unhealthy", "stopping"].map((out, i) => endpoint(i, 11 + i, ["web"], out));
    const [service] = run([[{ vips, hosts: [host(1, endpoints, more)] }, 0]]).services;
    expect(states(service)).toEqual({ "10.7.0.11": "ready", "10.7.0.12": "draining" });
  });

  test("on a host that is not reached is unreachable, never gone, and ready when it is back", () => {
    const there = { vips, hosts: [host(1, [one]), host(2, [two])] };
    const lost = { vips, hosts: [host(1, [one]), host(2, [two], { isLost: true })] };
    const away = run([
      [there, 0],
      [lost, 1],
      [lost, 2 * GONE_MS],
    ]);
    expect(states(away.services[0])).toEqual({ "10.7.0.11": "ready", "10.7.0.12": "unreachable" });
    expect(away.services[0]?.gone).toEqual([]);
    expect(balance(away, there, 2 * GONE_MS + 1).services).toEqual(run([[there, 0]]).services);
  });

  test("whose name is taken away keeps its connections until the endpoint is gone", () => {
    const { names: _, ...nameless } = two;
    const both = { vips, hosts: [host(1, [one, two])] };
    const ending = { vips, hosts: [host(1, [one, nameless])] };
    const ended = { vips, hosts: [host(1, [one])] };
    const draining = run([
      [both, 0],
      [ending, 1],
    ]);
    expect(states(draining.services[0])).toEqual({ "10.7.0.11": "ready", "10.7.0.12": "draining" });
    const after = balance(draining, ended, 2);
    expect(states(after.services[0])).toEqual({ "10.7.0.11": "ready" });
    expect(gone(after.services[0])).toEqual(["10.7.0.12"]);
  });

  test("a gone address ends with its time, or with whoever has it next", () => {
    const ended = { vips, hosts: [host(1, [one])] };
    const after = run([
      [{ vips, hosts: [host(1, [one, two])] }, 0],
      [ended, 5],
    ]);
    expect(after.nextMs).toBe(5 + GONE_MS);
    expect(gone(balance(after, ended, 4 + GONE_MS).services[0])).toEqual(["10.7.0.12"]);
    expect(gone(balance(after, ended, 5 + GONE_MS).services[0])).toEqual([]);
    const reused = { vips, hosts: [host(1, [one]), host(2, [endpoint(9, 12, ["other"])])] };
    expect(gone(balance(after, reused, 6).services[0])).toEqual([]);
  });

  test("a virtual address that was made anew remembers nothing of the one before", () => {
    const before = run([[{ vips, hosts: [host(1, [one, two])] }, 0]]);
    const anew = { vips: [vip("web", 201)], hosts: [host(1, [one])] };
    expect(balance(before, anew, 1).services[0]?.gone).toEqual([]);
  });
});

const member = fc.record({
  id: fc.integer({ min: 1, max: 8 }),
  address: fc.integer({ min: 11, max: 18 }),
  names: fc.subarray(NAMES),
  out: fc.constantFrom(undefined, "stopping", "paused", "unhealthy"),
});
const anyView: fc.Arbitrary<BalancedView> = fc.record({
  vips: fc.subarray(NAMES.map((name, i) => vip(name, 200 + i))),
  hosts: fc
    .uniqueArray(member, { selector: ({ id }) => id })
    .map((members) =>
      members.filter(
        ({ address }, i) => members.findIndex((other) => other.address === address) === i,
      ),
    )
    .chain((members) =>
      fc.array(fc.boolean(), { minLength: HOSTS, maxLength: HOSTS }).map((lost) =>
        lost.map((isLost, k) =>
          host(
            k + 1,
            members
              .filter(({ id }) => id % HOSTS === k)
              .map(({ id, address, names, out }) => endpoint(id, address, names, out)),
            { isLost },
          ),
        ),
      ),
    ),
});

test("whatever came before: who is ready is who has the name and can be asked now; who is gone has no address of anybody", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(anyView, fc.integer({ min: 0, max: GONE_MS })), { minLength: 1 }),
      (steps) => {
        let held = NOTHING_BALANCED;
        let nowMs = 0;
        const wasMember = new Set<string>();
        for (const [view, passedMs] of steps) {
          nowMs += passedMs;
          held = balance(held, view, nowMs);
          const anew = balance(NOTHING_BALANCED, view, nowMs);
          const ready = ({ services }: Balanced) =>
            services.map(({ name, members }) => [
              name,
              members.filter(({ state }) => state === "ready"),
            ]);
          expect(ready(held)).toEqual(ready(anew));
          expect(held.services.map(({ name }) => name)).toEqual(
            view.vips.map(({ name }) => name).toSorted(),
          );
          const there = view.hosts.flatMap(({ members }) => members.map(({ endpoint: e }) => e));
          for (const service of held.services) {
            const ids = service.members.map(({ endpoint: id }) => id);
            expect(ids).toEqual([...new Set(ids)].toSorted());
            for (const { endpoint: id, ipv4, ipv6 } of service.members) {
              expect(there).toContainEqual(expect.objectContaining({ id, ipv4, ipv6 }));
              wasMember.add(`${service.name} ${ipv4}`);
            }
            for (const { ipv4 } of service.gone) {
              expect(there.map((e) => e.ipv4)).not.toContain(ipv4);
              expect(wasMember).toContain(`${service.name} ${ipv4}`);
            }
          }
          expect(held.nextMs ?? Infinity).toBeGreaterThan(nowMs);
        }
        const { vips: last } = steps.at(-1)![0];
        const empty = balance(held, { vips: last, hosts: [] }, nowMs + GONE_MS);
        const over = balance(empty, { vips: last, hosts: [] }, nowMs + 2 * GONE_MS);
        expect(over.services.flatMap((service) => [...service.members, ...service.gone])).toEqual(
          [],
        );
      },
    ),
    { numRuns: 100 },
  );
});
