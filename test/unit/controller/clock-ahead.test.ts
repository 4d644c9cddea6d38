import fc from "fast-check";
import { expect, test } from "vitest";
import { admitNode, revokeNode } from "../../../controller/core/admission.ts";
import { allotBlock } from "../../../controller/core/blocks.ts";
import { rotateDueKeys } from "../../../controller/core/key-schedule.ts";
import { createNetwork } from "../../../controller/core/networks.ts";
import { QUARANTINE_MS, released } from "../../../controller/core/quarantine.ts";
import { readdressNode } from "../../../controller/core/readdress.ts";
import { newCluster } from "../../../controller/core/record.ts";
import { checkToken, issueToken } from "../../../controller/core/tokens.ts";
import { Controller } from "../../../controller/controller.ts";
import { MemoryStore } from "../../fakes/memory-controller-store.ts";
import { Ip } from "../../../shared/ip.ts";
import { silentLog } from "../../../shared/ports.ts";
import { identityFromSeed } from "../../../shared/node/identity.ts";
import { sha256 } from "../../../shared/node/system.ts";
import { node, nodeId } from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { storeRecord, storedRecord } from "../../support/stored-record.ts";

/** What was written down while the controller's clock was ahead ends as if it had been right. */

const DAY_MS = 86_400_000;
const random = seededRandom(1);
const nowMs = 100 * DAY_MS;
const aheadBy = fc.integer({ min: 3_600_000, max: 4000 * DAY_MS });

function written(wallMs: number) {
  const context = { wallMs, random };
  let record = newCluster(
    { controllerPeer: nodeId(9), controllerNode: nodeId(1), address: node(1).address },
    context,
  );
  for (let k = 1; k <= 3; k++)
    record = admitNode(record, nodeId(k), node(k), undefined, wallMs).record;
  const plain = { subnets: [], internal: false, attachable: true, labels: {}, driverOptions: {} };
  const app = createNetwork(record, nodeId(1), { ...plain, name: "app" }, context);
  const allotted = allotBlock(app.record, nodeId(2), app.result.id, 4);
  const untilMs = wallMs + QUARANTINE_MS;
  const revoked = revokeNode(allotted.record, "h2", untilMs).record;
  const address = Ip.parse("198.51.100.53");
  const facts = { address, vtep: address, underlayMtuBytes: 1500, ownSubnets: [] };
  const moved = readdressNode(revoked, nodeId(3), facts, untilMs).record;
  return issueToken(moved, { ttlMs: DAY_MS, uses: 1 }, sha256, context);
}

test("blocks and addresses are free after ten minutes", () => {
  fc.assert(
    fc.property(aheadBy, (aheadMs) => {
      const { record } = written(nowMs + aheadMs);
      const kept = released(record, nowMs);
      for (const { untilMs } of [...(kept.quarantine ?? []), ...(kept.formerAddresses ?? [])])
        expect(untilMs).toBe(nowMs + QUARANTINE_MS);
      expect(kept.quarantine).toHaveLength(1);
      expect(released(kept, nowMs + 1)).toBe(kept);
      const free = released(kept, nowMs + QUARANTINE_MS);
      expect(free).not.toHaveProperty("quarantine");
      expect(free).not.toHaveProperty("formerAddresses");
    }),
  );
});

test("a token made then does not hold, nor count among those that do", () => {
  fc.assert(
    fc.property(aheadBy, (aheadMs) => {
      const { record, result } = written(nowMs + aheadMs);
      expect(() => checkToken(record, result, sha256, nowMs)).toThrow(/clock was ahead/);
      const next = issueToken(record, { ttlMs: 1, uses: 1 }, sha256, { wallMs: nowMs, random });
      expect(next.record.tokens).toHaveLength(1);
    }),
  );
});

test("a clock that is corrected by a minute takes no token away", () => {
  const { record, result } = written(nowMs + 60_000);
  expect(checkToken(record, result, sha256, nowMs).id).toBe(result.id);
});

test("a key made then is made anew, once", () => {
  fc.assert(
    fc.property(aheadBy, (aheadMs) => {
      const { record } = written(nowMs + aheadMs);
      const rotated = rotateDueKeys(record, { wallMs: nowMs, random });
      expect(rotated.state.networks.map(({ keyEpoch }) => keyEpoch)).toEqual([2]);
      expect(rotateDueKeys(rotated, { wallMs: nowMs, random })).toBe(rotated);
    }),
  );
});

test("an end that was moved is on disk, though nothing else changed: it moves no further", async () => {
  const store = new MemoryStore();
  await storeRecord(store, written(nowMs + 400 * DAY_MS).record);
  const keys = identityFromSeed(new Uint8Array(32).fill(2));
  const controller = new Controller(
    { controller: keys, certificate: "", rootKey: keys.publicKey },
    {
      store,
      log: silentLog,
      random,
      hasher: sha256,
      clock: { nowMs: () => 0, wallMs: () => nowMs },
    },
  );
  await controller.changeKeySchedule({});
  const { quarantine, formerAddresses } = await storedRecord(store);
  for (const held of [quarantine, formerAddresses])
    expect(held?.map(({ untilMs }) => untilMs)).toEqual([nowMs + QUARANTINE_MS]);
});
