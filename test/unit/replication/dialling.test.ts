import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { Dialling } from "../../../agent/replication/gossip/dialling.ts";
import type { MeshPeer } from "../../../agent/replication/gossip/port.ts";
import { Ip } from "../../../shared/ip.ts";
import { nodeId } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";

/** @returns how many dials it took until a peer was connected that needs so long. */
async function dialsOf(neededMs: number): Promise<number> {
  const up = Promise.withResolvers<void>();
  let dials = 0;
  let connected = false;
  const dial = async (_: MeshPeer, signal: AbortSignal): Promise<void> => {
    dials++;
    await delay(neededMs, undefined, { signal });
    connected = true;
    up.resolve();
  };
  const dialling = new Dialling(dial, () => connected, seededRandom(1), {
    firstMs: 100,
    mostMs: 2000,
  });
  dialling.want([{ node: nodeId(2), address: Ip.parse("198.51.100.2"), port: 7947 }]);
  await up.promise;
  dialling.stop();
  return dials;
}

test("a peer that is slow gets twice the time with each dial", async () => {
  expect(await dialsOf(1)).toBe(1);
  // 100, 200, 400, and 800 that suffice.
  expect(await dialsOf(500)).toBe(4);
});
