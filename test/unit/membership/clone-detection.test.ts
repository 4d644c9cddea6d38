import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { CloneDetection } from "../../../agent/membership/clone-detection.ts";
import { statusOf } from "../../../agent/api/status.ts";
import { CLUSTER_TOPIC } from "../../../agent/replication/request-kinds.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { hostSigningBytes } from "../../../shared/documents.ts";
import { ed25519Signer } from "../../../shared/node/system.ts";
import { silentLog } from "../../../shared/ports.ts";
import { fakeCluster, type FakeHost } from "../../support/fake-host.ts";

const directory = mkdtempSync(join(tmpdir(), "ovt-cloned-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("another machine with this host's identity is said once, with what to do, until it is gone", () => {
  const logged: string[] = [];
  let changes = 0;
  let other: string | undefined;
  const cloneDetection = new CloneDetection({
    bootId: "ours",
    otherMachine: () => other,
    changed: () => changes++,
    log: { ...silentLog, error: (_, message) => logged.push(message) },
  });
  cloneDetection.look();
  expect(cloneDetection.failure()).toBeUndefined();
  other = "theirs";
  for (let i = 0; i < 3; i++) cloneDetection.look();
  expect(cloneDetection.failure()).toMatchObject({
    message: expect.stringMatching(/cloned.*boot id here ours, there theirs/),
    next: expect.stringMatching(/overlay-ts leave --force/),
  });
  expect([logged.length, changes]).toEqual([1, 1]);
  other = undefined;
  cloneDetection.look();
  expect(cloneDetection.failure()).toBeUndefined();
  expect([logged.length, changes]).toEqual([1, 2]);
});

test("a host's status names it when a word of its own comes that knows this boot", async () => {
  const cluster = await fakeCluster(2, directory);
  try {
    const [{ agent }, peer] = cluster.hosts as [FakeHost, FakeHost];
    const { seed, node } = agent.identity;
    const identities = async () =>
      (await statusOf(agent)).problems?.filter(({ what }) => what === "identity");
    const { signature: _, ...said } = agent.replication.tables.hosts.get(node)!;
    expect(await identities()).toEqual([]);
    const version = { incarnation: said.version.incarnation + 1, seq: 1 };
    const word = { ...said, version, bootId: "copy", overtook: said.bootId };
    const document = { ...word, signature: ed25519Signer(seed).sign(hostSigningBytes(word)) };
    await peer.agent.adapters.mesh.publish(
      CLUSTER_TOPIC,
      encodeCbor({ v: 1, kind: "host", document }),
    );
    expect(await identities()).toMatchObject([{ message: expect.stringMatching(/there copy/) }]);
    expect(agent.replication.tables.hosts.get(node)).toMatchObject({
      bootId: said.bootId,
      overtook: "copy",
    });
  } finally {
    await cluster.stop();
  }
});
