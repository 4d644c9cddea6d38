import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test, vi } from "vitest";
import { verify } from "../../../agent/api/verify.ts";
import { fakeCluster, type FakeHost } from "../../support/fake-host.ts";
import { PATIENT } from "../../support/patient.ts";
import { makeNetwork } from "../../support/plugin-bodies.ts";

const directory = mkdtempSync(join(tmpdir(), "ovt-following-"));

afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("agents that all follow take what the controller changes as changes, and start again from them", async () => {
  const made = await fakeCluster(3, directory);
  const { hosts, controller } = made;
  const [host, , third] = hosts as [FakeHost, FakeHost, FakeHost];
  const { cluster } = third.agent.replication;
  await vi.waitFor(
    () =>
      expect(hosts.map(({ agent }) => agent.replication.cluster.needWhole())).toEqual([[], [], []]),
    PATIENT,
  );
  const { merged, followed } = cluster.counters;
  await makeNetwork(host);
  const newest = async () => (await controller.state()).revision;
  await vi.waitFor(
    async () => expect(third.agent.replication.tables.state!.revision).toBe(await newest()),
    PATIENT,
  );
  expect(third.agent.replication.tables.state!.networks).toHaveLength(1);
  expect(cluster.counters).toMatchObject({ misfits: 0, badState: 0 });
  expect(cluster.counters.followed).toBeGreaterThan(followed);
  expect(cluster.counters.merged).toBeGreaterThan(merged);
  expect(cluster.signed().changes.length).toBeGreaterThan(0);
  expect(await verify(third.agent)).toEqual([]);
  await third.plugin.stop();
  const { next } = await third.restarted();
  expect(next.replication.tables.state).toEqual(third.agent.replication.tables.state);
  expect(next.replication.cluster.signed().changes).toEqual(cluster.signed().changes);
  await next.stop();
  await made.stop();
});

test("beside the controller an agent that starts again knows that its state is the newest, though nothing changes", async () => {
  const made = await fakeCluster(1, directory);
  const [host] = made.hosts as [FakeHost];
  await vi.waitFor(() => expect(host.agent.replication.stateIsFresh()).toBe(true), PATIENT);
  await host.plugin.stop();
  const { next } = await host.restarted();
  await vi.waitFor(() => expect(next.replication.stateIsFresh()).toBe(true), PATIENT);
  await next.stop();
  await made.stop();
});
