import fc from "fast-check";
import { expect, test } from "vitest";
import { BlockIndex } from "../../agent/core/data-plane/block-index.ts";
import { readNetwork } from "../../agent/core/data-plane/read-network.ts";
import { changeOwn } from "../../agent/core/tables/own-documents.ts";
import { Tables } from "../../agent/core/tables/tables.ts";
import type { BlockRecord, ClusterState } from "../../shared/cluster-state.ts";
import type { HostDocument } from "../../shared/documents.ts";
import { Cidr, type Ip, ipToNumber, numberToIp, prefixLength, rangeOf } from "../../shared/ip.ts";
import { inOneOrder } from "../../shared/state/objects.ts";
import { sha256 } from "../../shared/node/system.ts";
import { app, clusterState, endpoint, hashSigner, nodeId, vtepOf } from "../support/cluster.ts";

/** What is kept from one reading to the next must not show: after each change it is as if read for the first time. */

const NODES = [1, 2, 3] as const;
const host = fc.constantFrom(...NODES);
const number = fc.integer({ min: 1, max: 4 });

const change = fc.oneof(
  // Of host `k`, at an address of host `of`: misplaced when that is another.
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("put" as const),
      k: host,
      of: host,
      n: number,
      id: number,
    }),
  },
  fc.record({ kind: fc.constant("remove" as const), k: host, of: host, n: number }),
  fc.record({ kind: fc.constant("hosts" as const), k: host, on: fc.boolean() }),
  // Each host's block is given to another, or to nobody; a host is revoked.
  fc.record({
    kind: fc.constant("state" as const),
    owners: fc.tuple(host, host, fc.option(host, { nil: undefined })),
    revoked: fc.option(host, { nil: undefined }),
  }),
  // As changes are followed: what stays of the state is the same objects. One host's block goes to another, or a smaller one of it.
  fc.record({
    kind: fc.constant("block" as const),
    of: host,
    n: number,
    k: host,
    whole: fc.boolean(),
  }),
);
type Change = typeof change extends fc.Arbitrary<infer T> ? T : never;

function hostDocument(k: number, seq: number, on: boolean): HostDocument {
  return {
    node: nodeId(k),
    version: { incarnation: 1, seq },
    bootId: "boot",
    vtep: { advertised: vtepOf(k), local: vtepOf(k) },
    underlayMtuBytes: 1500,
    capabilities: [],
    hosting: on ? [app.id] : [],
    signature: new Uint8Array(64),
  };
}

function stateOf(revision: number, step: Change & { kind: "state" }): ClusterState {
  const { blocks } = clusterState(3);
  const given = step.owners.flatMap((owner, i): BlockRecord[] =>
    owner === undefined ? [] : [{ ...blocks[i]!, node: nodeId(owner) }],
  );
  const revoked = step.revoked === undefined ? [] : [nodeId(step.revoked)];
  // As it is parsed from the wire: another object for everything in it.
  return structuredClone(clusterState(3, { revision, blocks: given, revoked }));
}

function apply(tables: Tables, step: Change, at: number): void {
  switch (step.kind) {
    case "state":
      return void tables.mergeState(stateOf(at + 2, step));
    case "block": {
      const { blocks } = tables.state!;
      const { ipv4 } = endpoint(step.of, step.n);
      const given = Cidr.parse(
        step.whole ? clusterState(3).blocks[step.of - 1]!.block : `${ipv4}/32`,
      );
      const others = blocks.filter(({ block }) => block !== given);
      const record = { network: app.id, block: given, node: nodeId(step.k) };
      const next = { ...tables.state!, revision: at + 2, blocks: [...others, record] };
      return void tables.mergeState(at % 2 === 0 ? inOneOrder(next) : next);
    }
    case "hosts":
      return void tables.mergeHost(hostDocument(step.k, at + 1, step.on));
    case "put":
    case "remove": {
      const node = nodeId(step.k);
      const own = { node, hasher: sha256, signer: hashSigner(node) };
      const held = tables.documents(app.id).get(node);
      const { id, ...rest } = endpoint(step.of, step.n);
      const put =
        step.kind === "put" ? [{ ...rest, id: step.id === 1 ? id : endpoint(9, step.id).id }] : [];
      const remove = step.kind === "remove" ? [id] : [];
      tables.mergeNetwork(changeOwn(own, app.id, held, put, remove).document);
    }
  }
}

function readAnew(tables: Tables) {
  const anew = new Tables();
  anew.mergeState(structuredClone(tables.state!));
  for (const document of tables.hosts.values()) anew.mergeHost(structuredClone(document));
  for (const document of tables.documents(app.id).values())
    anew.mergeNetwork(structuredClone(document));
  return readNetwork(anew, anew.state!.networks[0]!);
}

test("a network is read as for the first time, whatever changed since it was read", () => {
  let [held, left] = [0, 0];
  fc.assert(
    fc.property(fc.array(change, { minLength: 5, maxLength: 25 }), (steps) => {
      const tables = new Tables();
      tables.mergeState(structuredClone(clusterState(3)));
      for (const [at, step] of steps.entries()) {
        apply(tables, step, at);
        const reading = readNetwork(tables, tables.state!.networks[0]!);
        expect(reading).toEqual(readAnew(tables));
        held += reading.holders.length;
        left += reading.ignored.length;
      }
    }),
    { numRuns: 300 },
  );
  // The steps lead to both.
  expect(Math.min(held, left)).toBeGreaterThan(500);
});

/** Blocks of a small space, so that they lie in each other and addresses in them. */
const block = fc
  .tuple(fc.integer({ min: 20, max: 30 }), fc.nat(1023), fc.boolean())
  .map(([length, place, isIpv6]) => {
    const bits = isIpv6 ? length + 96 : length;
    const size = 1n << BigInt(32 - length);
    const base = ipToNumber((isIpv6 ? "fd00::" : "10.0.0.0") as Ip);
    const first = base + ((BigInt(place) * 4n) / size) * size;
    return Cidr.parse(`${numberToIp(first, isIpv6 ? 6 : 4)}/${bits}`);
  });
const address = fc.tuple(fc.nat(4200), fc.boolean()).map(([place, isIpv6]) => {
  const base = ipToNumber((isIpv6 ? "fd00::" : "10.0.0.0") as Ip);
  return numberToIp(base + BigInt(place), isIpv6 ? 6 : 4);
});

test("the block around an address is the most specific of those that it lies in", () => {
  fc.assert(
    fc.property(fc.uniqueArray(block), fc.array(address), (blocks, addresses) => {
      const records = blocks.map((of, i) => ({ network: app.id, block: of, node: nodeId(i % 3) }));
      const index = new BlockIndex(records);
      for (const ip of addresses) {
        const value = ipToNumber(ip);
        const around = records
          .filter(({ block: of }) => {
            const { first, last, family } = rangeOf(of);
            return (family === 6) === ip.includes(":") && first <= value && value <= last;
          })
          .toSorted((a, b) => prefixLength(b.block) - prefixLength(a.block));
        expect(index.around(ip)).toBe(around[0]);
      }
    }),
  );
});
