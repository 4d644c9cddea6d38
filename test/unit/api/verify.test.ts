import assert from "node:assert";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import {
  type DesiredNetwork,
  portLink,
  type Step,
} from "../../../agent/core/data-plane/kernel-state.ts";
import { entriesOf } from "../../../agent/core/data-plane/plan.ts";
import type { SandboxId } from "../../../agent/names/server/port.ts";
import { type Finding, verify } from "../../../agent/api/verify.ts";
import { decodeCbor, encodeCbor } from "../../../shared/codec.ts";
import type { NetworkDocument } from "../../../shared/documents.ts";
import { NetworkId } from "../../../shared/ids.ts";
import { type FakeCluster, fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import { occupy } from "../../support/occupy.ts";
import { joinBody, makeEndpoint, makeNetwork } from "../../support/plugin-bodies.ts";
import { PATIENT } from "../../support/patient.ts";

/**
 * `verify` finds what is changed in kernel, Docker, names and tables, one after another. The fake kernel
 * tells nobody of a change, so that what is found stays until the kernel is read again.
 */

const directory = mkdtempSync(join(tmpdir(), "ovt-verify-"));
let cluster: FakeCluster;
let host: FakeHost;
let network: NetworkId;

/** Two hosts with a container each on one network of h1. */
async function pair(folder: string): Promise<{ cluster: FakeCluster; network: NetworkId }> {
  const cluster = await fakeCluster(2, mkdtempSync(join(directory, folder)));
  const [host, other] = cluster.hosts as [FakeHost, FakeHost];
  const pool = await makeNetwork(host);
  await makeEndpoint(host, pool);
  expect((await host.call("NetworkDriver.Join", joinBody())).status).toBe(200);
  const [network] = [...host.agent.bindings.networks().values()] as [NetworkId];
  await occupy(other, network);
  await vi.waitFor(() => expect(host.kernel.readNow(network).vxlanFdb).toHaveLength(1), PATIENT);
  await vi.waitFor(async () => expect(await verify(host.agent)).toEqual([]), PATIENT);
  return { cluster, network };
}

beforeAll(async () => {
  ({ cluster, network } = await pair("each"));
  host = cluster.hosts[0]!;
});

afterAll(async () => {
  await cluster.stop();
  rmSync(directory, { recursive: true, force: true });
});

afterEach(async () => {
  vi.restoreAllMocks();
  host.agent.reconciler.check(network);
  await host.agent.reconciler.settle(network);
  expect(await found()).toEqual([]);
});

async function found(): Promise<string[]> {
  return (await verify(host.agent)).map(({ what, text }) => `${what}: ${text}`);
}

function desired(): DesiredNetwork {
  const wanted = host.agent.desiredNetworks.want(network);
  assert(wanted.kind === "present");
  return wanted.desired;
}

const remote = () => entriesOf(desired().remotes)[0]!;

test.each<[string, () => Step, RegExp[]]>([
  [
    "an entry that is gone",
    () => ({ kind: "removeFdb", entries: [remote()] }),
    [/^kernel: the VXLAN device has no entry for 10\.7/, /^kernel: the bridge has no forwarding/],
  ],
  [
    "a neighbour that is gone",
    () => ({ kind: "removeNeighbours", ips: remote().ips }),
    [/^kernel: the bridge has no neighbour entry for 10\.7/],
  ],
  [
    "a port that is gone",
    () => ({
      kind: "removePort",
      link: portLink(host.kernel.readNow(network).ports[0]!.endpoint),
    }),
    [/^kernel: the port of container 10\.7.* is missing/],
  ],
  [
    "another MTU",
    () => ({
      kind: "extend",
      desired: { ...desired(), mtuBytes: 1300 },
    }),
    [/^kernel: its MTU is 1300 and should be 1450/],
  ],
])("%s", async (_what, step, texts) => {
  host.kernel.applyNow(network, [step()]);
  const said = await found();
  expect(said).toHaveLength(texts.length);
  for (const [i, text] of texts.entries()) expect(said[i]).toMatch(text);
});

test("a network that cannot be read hides nothing else", async () => {
  vi.spyOn(host.kernel, "read").mockRejectedValue(new Error("EPERM"));
  vi.spyOn(host.agent.adapters.guards, "verify").mockResolvedValue(false);
  vi.spyOn(host.agent.adapters.wayOut, "faults").mockResolvedValue(["a port is not isolated"]);
  expect(await found()).toEqual([
    "kernel: cannot be read: EPERM",
    "guards: the nftables table is not what was written",
    "way out: a port is not isolated",
  ]);
});

test("what is believed of the kernel is read again for it", async () => {
  const recheck = vi.spyOn(host.kernel, "recheck");
  await verify(host.agent);
  expect(recheck).toHaveBeenCalledOnce();
});

test("a namespace of a network that is not here", async () => {
  const left = NetworkId.parse("77".repeat(16));
  host.kernel.applyNow(left, [{ kind: "extend", desired: { ...desired(), network: left } }]);
  expect(await verify(host.agent)).toEqual([
    { what: "leftover", network: left, text: "its namespace is left over" },
  ] satisfies Finding[]);
  await host.agent.reconciler.settle(left);
});

test("a container whose questions nobody answers, and one that is served and not there", async () => {
  const [id] = host.agent.nameServerFeed.wanted() as [SandboxId];
  const sandbox = host.names.served.get(id)!;
  const strange = "cafe00000000" as SandboxId;
  host.names.served.delete(id);
  host.names.served.set(strange, { ...sandbox, id: strange });
  expect(await found()).toEqual([
    `names: names are not served in sandbox ${id}`,
    `names: names are served in sandbox ${strange}, which no container here needs`,
  ]);
  host.names.served.delete(strange);
  host.names.served.set(id, sandbox);
});

test("rules in a container's namespace that are not as they should be are put back with the look", async () => {
  host.names.changed.add(host.agent.nameServerFeed.wanted()[0]!);
  expect(await found()).toEqual([expect.stringMatching(/^names: sandbox \w+ asked Docker alone/)]);
});

const key = () => `document/${network}/${host.agent.identity.node}`;
const onDisk = () => decodeCbor(host.store.get(key())!, 1 << 20) as NetworkDocument;

test.each<[string, () => void]>([
  ["lost", () => host.store.write([{ kind: "delete", key: key() }])],
  ["garbage", () => host.store.write([{ kind: "put", key: key(), value: Uint8Array.of(1, 2) }])],
  [
    "rolled back",
    () => {
      const version = { incarnation: 1, seq: 1 };
      const old = encodeCbor({ ...onDisk(), version, endpoints: [] });
      host.store.write([{ kind: "put", key: key(), value: old }]);
    },
  ],
])("our own word on disk is %s: it is named, and written again", async (_how, corrupt) => {
  const before = onDisk();
  corrupt();
  expect(await found()).toEqual([
    expect.stringMatching(/^tables: what h1 says of its containers was on disk otherwise/),
  ]);
  expect(onDisk()).toEqual(before);
});

test("the state, and what hosts say of themselves, on disk", async () => {
  const before = host.store.list("");
  for (const { key } of [...host.store.list("state"), ...host.store.list("host/")])
    host.store.write([{ kind: "delete", key }]);
  expect(await found()).toEqual([
    expect.stringMatching(/^tables: the controller's state was on disk otherwise/),
    expect.stringMatching(/^tables: what h[12] says of itself was on disk otherwise/),
    expect.stringMatching(/^tables: what h[12] says of itself was on disk otherwise/),
  ]);
  expect(host.store.list("")).toEqual(before);
});

test("endpoints of ours on a network that this host does not say that it is on", async () => {
  const { replication, identity, localNetworks } = host.agent;
  const own = replication.tables.hosts.get(identity.node)!;
  const say = vi.spyOn(localNetworks, "say").mockReturnValue();
  replication.say({ ...own, hosting: [] });
  expect(await found()).toEqual([
    expect.stringMatching(
      /^tables: this host has endpoints on it and does not say that it is on it/,
    ),
  ]);
  say.mockRestore();
  localNetworks.say();
});

test("a word that its owner did not sign, until the agent starts anew; it is not kept", async () => {
  const made = await pair("word");
  const [first, second] = made.cluster.hosts as [FakeHost, FakeHost];
  const { tables } = first.agent.replication;
  const held = tables.documents(made.network).get(second.agent.identity.node)!;
  const { incarnation, seq } = held.version;
  const before = first.store.list("document/");
  tables.mergeNetwork({ ...held, version: { incarnation, seq: seq + 1 } });
  const text = /^what h2 says of its containers is not what it signed.*systemctl restart/;
  expect(await verify(first.agent)).toEqual([
    { what: "tables", network: made.network, text: expect.stringMatching(text) },
  ]);
  expect(first.store.list("document/")).toEqual(before);
  const { next } = await first.restarted();
  await expect.poll(() => verify(next)).toEqual([]);
  await next.stop();
  await second.plugin.stop();
  await second.agent.stop();
});
