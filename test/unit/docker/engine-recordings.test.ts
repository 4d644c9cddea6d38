import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { failOnCrashes } from "../../support/crashes.ts";
import { fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import { callPlugin } from "../../support/plugin-client.ts";

/**
 * Calls that engines made of a plugin that takes everything, one a line, with what it answered: all of them
 * made again of ours, in their order. 28.5.2 is Debian's (forky), 29 was built from its source. What the
 * recorded plugin chose (pools, addresses, MACs) is in later calls what ours chose instead.
 */
const Recorded = z.strictObject({
  path: z.string(),
  headers: z.record(z.string(), z.string()),
  body: z.unknown(),
  answered: z.strictObject({ status: z.literal(200), body: z.record(z.string(), z.unknown()) }),
  /** Of the calls to a plugin that declares it, which ours does not. */
  capability: z.literal("GwAllocChecker").optional(),
});

interface Otherwise {
  readonly why: string;
  readonly refused?: RegExp;
  /** What is other in the answer's body; undefined: what is not there. */
  readonly body?: Readonly<Record<string, unknown>>;
}

const KEPT: Otherwise = {
  why: "nobody gets the address that --aux-address keeps, and no endpoint",
  refused: /10\.7\.0\.200 .* is reserved|knows no endpoint/,
};
const INTERNAL: Otherwise = {
  why: "--internal: no gateway service",
  body: { DisableGatewayService: true },
};
const SIX: Otherwise = {
  why: "--ipv4=false",
  refused: /has IPv4 on every host|knows no (network|address pool)/,
};
const FOO: Otherwise = { why: "-o foo=bar", refused: /knows no network option foo/ };
const TWO: Otherwise = { why: "two subnets", refused: /has one IPv4 subnet/ };
const CAPABLE: Otherwise = { why: "not declared", body: { GwAllocChecker: undefined } };

/** By line of the recording: where ours is no plugin that takes everything. */
const OTHERWISE: Readonly<Record<string, Readonly<Record<number, Otherwise>>>> = {
  "docker-28.5.2.jsonl": {
    18: KEPT,
    19: KEPT,
    20: KEPT,
    37: INTERNAL,
    53: SIX,
    54: SIX,
    55: SIX,
    56: SIX,
    103: FOO,
    105: TWO,
    180: CAPABLE,
  },
  "docker-29.jsonl": {
    18: KEPT,
    19: KEPT,
    20: KEPT,
    37: INTERNAL,
    53: SIX,
    54: SIX,
    55: SIX,
    56: SIX,
    105: FOO,
    107: TWO,
    175: CAPABLE,
  },
};

failOnCrashes();
const directory = mkdtempSync(join(tmpdir(), "ovt-recordings-"));

afterAll(() => rmSync(directory, { recursive: true, force: true }));

type Call = z.infer<typeof Recorded>;

/** What Docker since 28 says otherwise than the engines before, in words, and whether a call says it. */
const SINCE_28: readonly (readonly [string, (call: Call, before?: Call) => boolean])[] = [
  [
    "at `network rm` the pool is given back before the network",
    ({ path }, before) =>
      path === "/NetworkDriver.DeleteNetwork" && before?.path === "/IpamDriver.ReleasePool",
  ],
  [
    "a length of 0 where there is no body, and no Accept-Encoding",
    ({ headers, body }) =>
      body === null &&
      headers["Content-Length"] === "0" &&
      !Object.keys(headers).some((name) => name.toLowerCase() === "accept-encoding"),
  ],
  ["`Options: null`", ({ body }) => says(body, "Options", null)],
  ["GwAllocCheck", ({ path }) => path === "/NetworkDriver.GwAllocCheck"],
  ["an interface's name, `ifname`", ({ body }) => JSON.stringify(body).includes('.ifname":')],
];
const SINCE_29: typeof SINCE_28 = [
  ["`AuxAddresses: {}`", ({ body }) => says(body, "AuxAddresses", {})],
  [
    "the endpoint's name when an address is asked for",
    ({ path, body }) =>
      path === "/IpamDriver.RequestAddress" &&
      JSON.stringify(body).includes('"com.docker.network.endpoint.name":'),
  ],
];

interface Replayed {
  readonly call: Call;
  readonly differs: Otherwise | undefined;
  readonly got: object;
  readonly expected: object;
}

describe.each(Object.entries(OTHERWISE))("%s", (name, otherwise) => {
  const replay: Replayed[] = [];
  const networks = new Set<unknown>();
  const endpoints = new Set<unknown>();
  let cluster: Awaited<ReturnType<typeof fakeCluster>>;
  let host: FakeHost;
  const waysOut = new WaysOut();

  beforeAll(async () => {
    cluster = await fakeCluster(1, directory);
    [host] = cluster.hosts as [FakeHost];
    const ours = new Map([
      ["rec", "overlay-ts"],
      ["rec-global", "overlay-ts-global"],
    ]);
    const lines = readFileSync(new URL(`../../fixtures/${name}`, import.meta.url), "utf8");
    for (const [i, line] of lines.trimEnd().split("\n").entries()) {
      const call = Recorded.parse(JSON.parse(line));
      const { path, headers, body, answered } = call;
      const differs = otherwise[i + 1];
      const sent = body === null ? undefined : replaced(body, ours);
      const answer = await callPlugin(host.socket, path.slice(1), sent, {
        // As many bytes as there are: also 0, which Docker says.
        headers: { ...headers, "Content-Length": String(lengthOf(sent)) },
      });
      const what = `line ${i + 1}, ${path}${differs === undefined ? "" : `: ${differs.why}`}`;
      const got = { what, ...answer };
      if (differs?.refused !== undefined) {
        const body = expect.objectContaining({
          Err: expect.stringMatching(differs.refused) as string,
        }) as object;
        replay.push({ call, differs, got, expected: { what, status: 500, body } });
        continue;
      }
      learn(body, answered.body, answer.body, ours);
      const recorded = replaced(answered.body, ours) as object;
      const leaves = waysOut.answered(path, sent, differs === INTERNAL);
      const expected = { ...recorded, ...leaves, ...differs?.body };
      replay.push({ call, differs, got, expected: { what, status: 200, body: expected } });
      keep(networks, path, "Network", body);
      keep(endpoints, path, "Endpoint", body);
    }
    await host.quiet();
  });

  afterAll(() => cluster.stop());

  test("is answered, whole", () => {
    for (const { got, expected } of replay) expect(got).toEqual(expected);
  });

  test("what was not given up is there, and nothing else", () => {
    const { bindings, localNetworks, replication } = host.agent;
    const bound = [...bindings.networks()];
    expect(bound.map(([docker]) => docker)).toEqual([...networks]);
    const kept = bound.map(([, network]) => network);
    expect(replication.tables.state?.networks.map(({ id }) => id)).toEqual(kept);
    const there = kept.flatMap((id) => localNetworks.endpoints(id));
    expect(there.map(({ id }) => id)).toEqual([...endpoints]);
    expect(host.agent.ipam.pools.all().map(({ network }) => network)).toEqual(kept);
  });

  test.each(name === "docker-29.jsonl" ? [...SINCE_28, ...SINCE_29] : SINCE_28)(
    "has %s, and it is answered as it was, unless it is named here",
    (_, isOf) => {
      const those = replay.filter(({ call }, i) => isOf(call, replay[i - 1]?.call));
      // Some of the calls have it beside what ours refuses.
      expect(those.filter(({ differs }) => differs === undefined)).not.toEqual([]);
      for (const { got, expected } of those) expect(got).toEqual(expected);
    },
  );

  test("has `--ipv4=false`: no IPv4 data, which is refused", () => {
    const those = replay.filter(({ call }) => says(call.body, "IPv4Data", []));
    expect(those.map(({ differs }) => differs)).toEqual([SIX]);
  });
});

/** What ours says of the way out, the recorded plugin having said nothing: gateways, unless ports are published. */
class WaysOut {
  readonly #gateways = new Map<unknown, object>();
  readonly #bySandbox = new Map<unknown, boolean>();

  answered(path: string, body: unknown, internal: boolean): object {
    if (!isRecord(body)) return {};
    if (path === "/NetworkDriver.CreateNetwork")
      this.#gateways.set(body["NetworkID"], {
        ...gatewayOf(body["IPv4Data"], "Gateway"),
        ...gatewayOf(body["IPv6Data"], "GatewayIPv6"),
      });
    if (path !== "/NetworkDriver.Join" || internal) return {};
    const sandbox = body["SandboxKey"];
    const published = isRecord(body["Options"]) && body["Options"]["com.docker.network.portmap"];
    const isOpen = !Array.isArray(published) || published.length === 0;
    const byNetwork = this.#bySandbox.get(sandbox) ?? isOpen;
    this.#bySandbox.set(sandbox, byNetwork);
    return byNetwork ? (this.#gateways.get(body["NetworkID"]) ?? {}) : {};
  }
}

function gatewayOf(data: unknown, name: string): object {
  const [first] = Array.isArray(data) ? (data as unknown[]) : [];
  const gateway = isRecord(first) ? first["Gateway"] : undefined;
  return typeof gateway === "string" ? { [name]: gateway.split("/")[0] } : {};
}

/** Whether it, or something in it, has this under that key. */
function says(body: unknown, key: string, value: unknown): boolean {
  if (Array.isArray(body)) return body.some((item) => says(item, key, value));
  if (!isRecord(body)) return false;
  return Object.entries(body).some(
    ([name, item]) => (name === key && isDeepStrictEqual(item, value)) || says(item, key, value),
  );
}

function keep(kept: Set<unknown>, path: string, what: "Network" | "Endpoint", body: unknown): void {
  const id = isRecord(body) ? body[`${what}ID`] : undefined;
  if (path === `/NetworkDriver.Create${what}`) kept.add(id);
  if (path === `/NetworkDriver.Delete${what}`) kept.delete(id);
}

/** Go's encoder ends with a line feed. */
function lengthOf(body: unknown): number {
  return body === undefined ? 0 : Buffer.byteLength(JSON.stringify(body)) + 1;
}

/** What a plugin chooses: always, or when it is not asked for one. */
const CHOSEN = ["PoolID", "SrcName", "MacAddress"];
const CHOSEN_UNLESS_ASKED = ["Pool", "Address"];

/** For each recorded choice ours in its place; of an address also without its prefix. */
function learn(
  asked: unknown,
  recorded: unknown,
  actual: unknown,
  ours: Map<string, string>,
): void {
  if (!isRecord(recorded) || !isRecord(actual)) return;
  for (const [key, value] of Object.entries(recorded)) {
    const [was, is] = [value, actual[key]];
    learn(undefined, was, is, ours);
    if (typeof was !== "string" || typeof is !== "string") continue;
    if (CHOSEN.includes(key)) ours.set(was, is);
    if (!CHOSEN_UNLESS_ASKED.includes(key) || !isRecord(asked) || asked[key] !== "") continue;
    ours.set(was, is);
    ours.set(was.split("/")[0]!, is.split("/")[0]!);
  }
}

function replaced(value: unknown, ours: ReadonlyMap<string, string>): unknown {
  if (typeof value === "string") return ours.get(value) ?? value;
  if (Array.isArray(value)) return value.map((item: unknown) => replaced(item, ours));
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, replaced(item, ours)]),
  );
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
