import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, afterEach, beforeEach, expect, test } from "vitest";
import { failOnCrashes } from "../support/crashes.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../support/fake-host.ts";
import {
  ALL_CALLS,
  countsOf,
  ENDPOINT,
  goodBody,
  makeEndpoint,
  makeNetwork,
  NETWORK,
  OTHER_ENDPOINT,
  OTHER_NETWORK,
  SILENT_CALLS,
  TELLING_CALLS,
} from "../support/plugin-bodies.ts";

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-any-"));
let cluster: FakeCluster;
let host: FakeHost;
let poolId: string;

beforeEach(async () => {
  cluster = await fakeCluster(1, directory);
  [host] = cluster.hosts as [FakeHost];
  poolId = await makeNetwork(host);
  await makeEndpoint(host, poolId);
  // Nobody deletes this one: the network is not left in the middle of a test.
  await makeEndpoint(host, poolId, "f8".repeat(32));
  await host.quiet();
});

afterEach(() => cluster.stop());
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** Names that mean something, values that nearly do. */
const telling = fc.constantFrom<unknown>(
  NETWORK,
  OTHER_NETWORK,
  ENDPOINT,
  OTHER_ENDPOINT,
  "10.7.0.9/24",
  "10.7.0.1",
  "10.8.0.0/24",
  "fd00::1/64",
  "02:42:0a:07:00:09",
  "overlay-ts",
  "com.docker.network.gateway",
  "",
  null,
);
const field = fc.constantFrom(
  "NetworkID",
  "EndpointID",
  "Interface",
  "Address",
  "AddressIPv6",
  "MacAddress",
  "Options",
  "IPv4Data",
  "IPv6Data",
  "Pool",
  "SubPool",
  "PoolID",
  "AddressSpace",
  "SandboxKey",
  "Gateway",
  "AuxAddresses",
  "V6",
  "com.docker.network.generic",
  "com.docker.network.endpoint.macaddress",
  "RequestAddressType",
  "com.docker.network.driver.overlay.vxlanid_list",
  "__proto__",
  "constructor",
);
const { tree: nearly } = fc.letrec((tie) => ({
  tree: fc.oneof(
    { maxDepth: 4 },
    telling,
    fc.jsonValue(),
    fc.dictionary(field, tie("tree"), { maxKeys: 6 }),
    fc.array(tie("tree"), { maxLength: 3 }),
  ),
}));

/** A good body with up to two places changed. */
const mutated = (name: (typeof ALL_CALLS)[number]): fc.Arbitrary<object> =>
  fc
    .dictionary(field, nearly, { maxKeys: 2 })
    .map((changes) => ({ ...(isTelling(name) ? goodBody(name, poolId) : {}), ...changes }));

const isTelling = (name: string): name is (typeof TELLING_CALLS)[number] => !SILENT.has(name);
const SILENT = new Set<string>(SILENT_CALLS);

test.each(ALL_CALLS)(
  "%s: whatever the body, it is answered and counted, and a refusal changes nothing",
  async (name) => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.jsonValue(), nearly, mutated(name)), async (body) => {
        const before = { tables: await host.tables(), counts: countsOf(host, name) };
        const { status, body: answer } = await host.call(name, body ?? undefined);
        const text = answer["Err"];
        const after = countsOf(host, name);
        expect(after.asked).toBe(before.counts.asked + 1);
        expect(after.refused).toBe(before.counts.refused + (status === 200 ? 0 : 1));
        if (status === 200) {
          expect(after.decoded).toBe(before.counts.decoded + 1);
          expect(text).toBeUndefined();
          if (SILENT.has(name)) expect(await host.tables()).toBe(before.tables);
          else await host.quiet();
          return;
        }
        expect(status).toBe(500);
        expect(text).toMatch(/^[^\p{Cc}]{1,1200} \([^\p{Cc}]{3,}\)$/u);
        expect(answer["Error"]).toBe(text);
        expect(await host.tables()).toBe(before.tables);
      }),
      { numRuns: 40 },
    );
    expect(countsOf(host, name).decoded).toBeGreaterThan(0);
    expect(countsOf(host, name).refused).toBeGreaterThan(0);
  },
);
