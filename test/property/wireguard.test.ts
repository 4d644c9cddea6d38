import fc from "fast-check";
import { expect, test } from "vitest";
import {
  planPeers,
  type WireguardKey,
  type WireguardPeer,
} from "../../agent/core/keys/wireguard.ts";
import { FakeUnderlay, FakeWireguard } from "../fakes/fake-wireguard.ts";
import { hostCidr } from "../../shared/ip.ts";
import { insideOf, peer, privateKey, wanted } from "../contract/wireguard-contract.ts";
import { vtepOf } from "../support/cluster.ts";

/** Host k with any key, at any place: hosts change both. */
const peers = fc
  .uniqueArray(
    fc.record({
      k: fc.integer({ min: 2, max: 9 }),
      key: fc.integer({ min: 0, max: 3 }),
      place: fc.integer({ min: 2, max: 9 }),
      keepaliveSeconds: fc.constantFrom(0, 25),
    }),
    { selector: ({ k }) => k, maxLength: 6 },
  )
  .map((hosts): WireguardPeer[] =>
    hosts.map(({ k, key, place, keepaliveSeconds }) => ({
      publicKey: Buffer.alloc(32, 16 * k + key).toString("base64") as WireguardKey,
      endpoint: { ...peer(k).endpoint, ip: vtepOf(place) },
      inside: insideOf(k),
      keepaliveSeconds,
    })),
  );

test("from any peers to any others in one pass, then nothing is left to do", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(peers, { minLength: 1, maxLength: 6 }), async (states) => {
      const tunnel = new FakeWireguard(new FakeUnderlay(), vtepOf(1), () => 0);
      for (const state of states) {
        const before = (await tunnel.read())?.peers ?? [];
        const unchanged = before.filter(({ publicKey, endpoint, allowed, keepaliveSeconds }) =>
          state.some(
            (other) =>
              other.publicKey === publicKey &&
              other.endpoint.ip === endpoint?.ip &&
              allowed[0] === hostCidr(other.inside) &&
              other.keepaliveSeconds === keepaliveSeconds,
          ),
        );
        const changes = planPeers(before, { peers: state, undecided: [] }, new Map(), 0);
        const named = new Set(changes.map(({ publicKey }) => publicKey));
        expect(unchanged.filter(({ publicKey }) => named.has(publicKey))).toEqual([]);
        await tunnel.set(privateKey(1), wanted(1, state));
        const { peers: held } = (await tunnel.read())!;
        expect(new Map(held.map((one) => [one.publicKey, [one.endpoint, one.allowed]]))).toEqual(
          new Map(state.map((one) => [one.publicKey, [one.endpoint, [hostCidr(one.inside)]]])),
        );
        expect(planPeers(held, { peers: state, undecided: [] }, new Map(), 0)).toEqual([]);
      }
    }),
    { numRuns: 100 },
  );
});
