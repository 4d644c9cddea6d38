import { afterEach, expect, test } from "vitest";
import { Libp2pMesh } from "../../agent/replication/gossip/libp2p-mesh.ts";
import { ControlServer } from "../../controller/wire/server.ts";
import { Libp2pChannel } from "../../controller/wire/libp2p-channel.ts";
import type { Controller } from "../../controller/controller.ts";
import { Ip } from "../../shared/ip.ts";
import { noCommonVersion, WIRE_VERSIONS } from "../../shared/wire-version.ts";
import { silentLog } from "../../shared/ports.ts";
import { ANSWER_MS, WAIT } from "../contract/mesh-contract.ts";
import { signedCluster } from "../support/signed-cluster.ts";

/** Hosts of different versions of overlay-ts, with real libp2p. */

const address = Ip.parse("127.0.0.1");
const PORT = 17950;
const closing: (() => Promise<void>)[] = [];
const cluster = await signedCluster();
const members = cluster.hosts.map(({ node }) => node);

afterEach(async () => {
  await Promise.all(closing.splice(0).map((close) => close()));
});

async function host(k: number, versions: readonly number[]): Promise<Libp2pMesh> {
  const mesh = new Libp2pMesh(
    {
      identitySeed: cluster.hosts[k]!.seed,
      listen: { address, port: PORT + k },
      claim: cluster.claims[k]!,
      rootKey: cluster.root.publicKey,
      versions,
    },
    silentLog,
  );
  closing.push(() => mesh.stop());
  await mesh.start({
    message: () => {},
    request: async (_from, bytes) => bytes,
    connected: () => {},
    disconnected: () => {},
  });
  mesh.admit({ revision: 1, nodes: members, revoked: [] });
  return mesh;
}

const peer = (k: number) => ({ node: members[k]!, address, port: PORT + k });

test("hosts that share a version speak it, also when each knows others", async () => {
  const [older, newer] = await Promise.all([host(0, [1]), host(1, [3, 2, 1])]);
  newer.wantPeers([peer(0)]);
  await expect.poll(() => older.connections(), WAIT).toEqual([members[1]]);
  const asked = Uint8Array.of(1, 2, 3);
  expect(await newer.request(members[0]!, asked, ANSWER_MS)).toEqual(asked);
  expect(await older.request(members[1]!, asked, ANSWER_MS)).toEqual(asked);
  expect(await newer.otherVersions()).toEqual([]);
});

test("hosts that share none say so to each other, with both versions, and connect after an upgrade", async () => {
  const [older, newer] = await Promise.all([host(0, [1]), host(1, [3, 2])]);
  older.wantPeers([peer(1)]);
  await expect
    .poll(() => older.otherVersions(), WAIT)
    .toEqual([{ node: members[1], versions: [3, 2] }]);
  expect(older.connections()).toEqual([]);
  await expect
    .poll(async () => (await newer.counters())["refusedOtherVersion"] ?? 0, WAIT)
    .toBeGreaterThan(0);
  await newer.stop();
  const upgraded = await host(1, [3, 2, 1]);
  await expect.poll(() => upgraded.connections(), WAIT).toEqual([members[0]]);
  expect(await older.otherVersions()).toEqual([]);
});

test("what is said of it names both versions and who is to be upgraded", () => {
  expect(noCommonVersion("h2", [3, 2], [1])).toMatchObject({
    code: "UNSUPPORTED",
    message: "h2 speaks wire version 3, 2, and this host 1",
    next: "upgrade overlay-ts on this host",
  });
  expect(noCommonVersion("h2", [1], [3, 2]).next).toBe("upgrade overlay-ts on h2");
});

test("a host that shares no version with the controller is told so", async () => {
  const options = { seed: cluster.controller.seed, address, port: PORT + 9 };
  const nobody = {} as Controller;
  const server = new ControlServer(options, nobody, silentLog);
  await server.start();
  closing.push(() => server.stop());
  const channel = new Libp2pChannel(cluster.hosts[0].seed, [9, 8]);
  closing.push(() => channel.close());
  const to = { address, port: options.port, peer: cluster.controller.node };
  const failed = {
    code: "UNSUPPORTED",
    message: `the controller speaks wire version ${WIRE_VERSIONS.join()}, and this host 9, 8`,
    next: "upgrade overlay-ts on the controller",
  };
  await expect(channel.exchange(to, Uint8Array.of(1), ANSWER_MS)).rejects.toMatchObject(failed);
  const watched = channel.watch(to, () => {}, AbortSignal.timeout(ANSWER_MS));
  await expect(watched).rejects.toMatchObject(failed);
});
