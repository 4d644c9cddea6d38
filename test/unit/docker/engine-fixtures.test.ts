import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { z } from "zod";
import { failOnCrashes } from "../../support/crashes.ts";
import { fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import { callPlugin } from "../../support/plugin-client.ts";

/**
 * Docker's calls as engines before 28 make them, played in their order; of later ones there are recordings
 * (engine-recordings.test.ts). The files say what they were derived from. A text that begins with `$` stands for what an earlier answer said there.
 */
const Exchange = z.strictObject({
  why: z.string().optional(),
  path: z.string(),
  headers: z.record(z.string(), z.string()),
  body: z.unknown(),
  /** `says`: part of the error's text. */
  expect: z.strictObject({ status: z.number(), body: z.unknown(), says: z.string().optional() }),
});
const Fixture = z.tuple([z.strictObject({ "derived from source, not run": z.string() })], Exchange);

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-engines-"));
const fixtures = new URL("../../fixtures/", import.meta.url);

afterAll(() => rmSync(directory, { recursive: true, force: true }));

test.each(readdirSync(fixtures).filter((name) => /^docker-.*\.json$/.test(name)))(
  "%s is answered",
  async (name) => {
    const [, ...exchanges] = Fixture.parse(
      JSON.parse(readFileSync(new URL(name, fixtures), "utf8")),
    );
    const cluster = await fakeCluster(1, directory);
    const [host] = cluster.hosts as [FakeHost];
    const before = await holdings(host);
    const said = new Map<string, string>();
    for (const { path, headers, body, expect: expected } of exchanges) {
      const sent = body === null ? undefined : fill(body, said);
      const answer = await callPlugin(host.socket, path.slice(1), sent, { headers });
      learn(expected.body, answer.body, said);
      expect({ path, ...answer }).toEqual({
        path,
        status: expected.status,
        body: fill(expected.body, said),
      });
      if (expected.says !== undefined) expect(said.get("$text")).toContain(expected.says);
      said.delete("$text");
    }
    // Everything was given back.
    expect(await holdings(host)).toEqual(before);
    await cluster.stop();
  },
);

test.each(["", "/run/docker/plugins/overlay-ts.sock", "plugin.moby.localhost", "localhost"])(
  "the Host header %j is as good as any: engines differ",
  async (host) => {
    const cluster = await fakeCluster(1, directory);
    const socket = cluster.hosts[0]?.socket ?? "";
    const { status } = await callPlugin(socket, "Plugin.Activate", undefined, {
      headers: { host },
    });
    expect(status).toBe(200);
    await cluster.stop();
  },
);

async function holdings(host: FakeHost) {
  const { bindings, ipam, replication } = host.agent;
  await host.quiet();
  const documents = host.kernel.list();
  return {
    networks: replication.tables.state?.networks,
    bound: [...bindings.networks()],
    pools: ipam.pools.all(),
    kernel: await documents,
  };
}

/** What the answer says where the fixture has a `$name` it has not met; an address also without prefix. */
function learn(expected: unknown, actual: unknown, said: Map<string, string>): void {
  if (typeof expected === "string" && expected.startsWith("$") && typeof actual === "string") {
    if (said.has(expected)) return;
    said.set(expected, actual);
    if (expected === "$address") said.set("$ip", actual.split("/")[0] ?? "");
  }
  if (!isRecord(expected) || !isRecord(actual)) return;
  for (const [key, value] of Object.entries(expected)) learn(value, actual[key], said);
}

function fill(value: unknown, said: ReadonlyMap<string, string>): unknown {
  if (typeof value === "string") return said.get(value) ?? value;
  if (Array.isArray(value)) return value.map((item: unknown) => fill(item, said));
  if (!isRecord(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fill(item, said)]));
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
