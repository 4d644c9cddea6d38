import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { clashOf, freeMac } from "../../agent/core/data-plane/endpoint-conflict.ts";
import { derivesMac } from "../../agent/core/data-plane/claims.ts";
import { readNetwork } from "../../agent/core/data-plane/read-network.ts";
import { changeOwn } from "../../agent/core/tables/own-documents.ts";
import { Tables } from "../../agent/core/tables/tables.ts";
import type { Endpoint, NetworkDocument } from "../../shared/documents.ts";
import { EndpointId } from "../../shared/ids.ts";
import { derivedMacs, Mac, ruleMac } from "../../shared/mac.ts";
import { sha256 } from "../../shared/node/system.ts";
import { app, clusterState, endpoint, hashSigner, nodeId } from "../support/cluster.ts";

/** Who has a MAC, whatever anybody claims: hosts 1 to 3 with containers 2 to 6 each. */

const NODES = [1, 2, 3];
const number = fc.integer({ min: 2, max: 6 });
const host = fc.constantFrom(...NODES);

/** Some container's MAC, one of the two of its address, the gateway's, or one of the user's own. */
const anyMac = fc.oneof(
  fc
    .tuple(host, number, fc.boolean())
    .map(([k, n, spare]) => derivedMacs(endpoint(k, n).ipv4!)[spare ? 1 : 0]),
  fc.constant(ruleMac(app.subnets[0]!.gateway)),
  fc.integer({ min: 1, max: 3 }).map((n) => Mac.parse(`06:00:00:00:00:0${n}`)),
);
const honest = fc.uniqueArray(fc.tuple(host, number), { selector: ([k, n]) => `${k} ${n}` });
const claims = fc.array(fc.record({ k: host, n: number, mac: anyMac, id: fc.nat(0xffff) }));

function documentsOf(said: ReadonlyMap<number, readonly Endpoint[]>): NetworkDocument[] {
  return [...said].map(([k, endpoints]) => {
    const node = nodeId(k);
    const own = { node, hasher: sha256, signer: hashSigner(node) };
    return changeOwn(own, app.id, undefined, [...endpoints], []).document;
  });
}

function read(documents: readonly NetworkDocument[]) {
  const tables = new Tables();
  tables.mergeState(clusterState(3));
  for (const document of documents) tables.mergeNetwork(document);
  return readNetwork(tables, { ...app });
}

type Claims = readonly { k: number; n: number; mac: Mac; id: number }[];

function saidBy(rightful: readonly (readonly [number, number])[], foreign: Claims) {
  return new Map(
    NODES.map((k) => {
      const own = rightful.filter(([on]) => on === k).map(([, n]) => endpoint(k, n));
      const claimed = foreign
        .filter((claim) => claim.k === k)
        .map(({ n, mac, id }): Endpoint => {
          const text = `ff${id.toString(16).padStart(8, "0")}`;
          return { ...endpoint(k, n), mac, id: EndpointId.parse(text) };
        })
        .filter((claim) => !derivesMac(claim));
      return [k, [...own, ...claimed]] as const;
    }),
  );
}

describe("the MAC rule", () => {
  test("no set of foreign claims keeps back an endpoint whose address derives its MAC", () => {
    fc.assert(
      fc.property(honest, claims, (rightful, foreign) => {
        const { holders } = read(documentsOf(saidBy(rightful, foreign)));
        const ids = new Set(holders.map((holder) => holder.endpoint.id));
        for (const [k, n] of rightful) expect(ids).toContain(endpoint(k, n).id);
      }),
    );
  });

  test("every MAC and address is one endpoint's, on every node the same, whatever came first", () => {
    fc.assert(
      fc.property(honest, claims, (rightful, foreign) => {
        const documents = documentsOf(saidBy(rightful, foreign));
        const { holders, ignored } = read(documents);
        const macs = holders.map((holder) => holder.endpoint.mac);
        expect(new Set(macs).size).toBe(macs.length);
        expect(macs).not.toContain(ruleMac(app.subnets[0]!.gateway));
        expect(read(documents.toReversed())).toMatchObject({ holders, ignored });
      }),
    );
  });

  test("a claim that nothing else has is believed", () => {
    fc.assert(
      fc.property(honest, host, number, anyMac, (rightful, k, n, mac) => {
        const claim = { k, n, mac, id: 1 };
        const others = rightful.filter(([on, m]) => on !== k || m !== n);
        const macs = others.map(([on, m]) => endpoint(on, m).mac);
        fc.pre(!macs.includes(mac) && mac !== ruleMac(app.subnets[0]!.gateway));
        expect(read(documentsOf(saidBy(others, [claim]))).ignored).toEqual([]);
      }),
    );
  });

  test("a new endpoint that chose no MAC is never refused for one, unless both are taken here", () => {
    fc.assert(
      fc.property(honest, claims, host, number, (rightful, foreign, k, n) => {
        const others = rightful.filter(([on, m]) => on !== k || m !== n);
        const elsewhere = foreign.filter((claim) => claim.k !== k);
        const said = saidBy(others, elsewhere);
        const reading = read(documentsOf(said));
        const own = said.get(k) ?? [];
        const { ipv4, id } = endpoint(k, n);
        const made = { id, ipv4: ipv4!, mac: freeMac(ipv4!, own, reading) };
        expect(clashOf(app, made, own, reading)).toBeUndefined();
        const after = read(documentsOf(new Map([...said, [k, [...own, made]]])));
        expect(after.holders.map((holder) => holder.endpoint.id)).toContain(id);
        // One that had the MAC keeps it, as long as there is another for the new one.
        const before = reading.holders.filter((holder) => holder.endpoint.mac === ruleMac(ipv4!));
        const spare = derivedMacs(ipv4!)[1];
        if (!reading.holders.some((holder) => holder.endpoint.mac === spare))
          expect(after.holders).toEqual(expect.arrayContaining(before));
      }),
    );
  });
});
