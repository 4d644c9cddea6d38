import { Disk } from "../../../agent/store/disk.ts";
import { expect, test } from "vitest";
import { ReturnedBlocks } from "../../../agent/networks/returned-blocks.ts";
import { MemoryStore } from "../../../agent/store/memory-store.ts";
import { Cidr, Ip } from "../../../shared/ip.ts";
import { app, clusterState, nodeId } from "../../support/cluster.ts";

const block = Cidr.parse("10.192.1.0/24");
const own = { network: app.id, block, node: nodeId(1) };
const others = { network: app.id, block: Cidr.parse("10.192.2.0/24"), node: nodeId(2) };
const made = (store = new MemoryStore()) => new ReturnedBlocks(new Disk(store));

test("from the question on nothing of the block is given out, until it is answered", () => {
  const held = made();
  expect(held.usable(nodeId(1), [own, others])).toEqual([own, others]);
  held.asking(app.id, block);
  expect(held.usable(nodeId(1), [own, others])).toEqual([others]);
  expect(() => held.check(app.id, Ip.parse("10.192.1.9"))).toThrow(/giving 10.192.1.0\/24 back/);
  held.check(app.id, Ip.parse("10.192.2.9"));
  held.asked(app.id, block, true);
  expect(held.usable(nodeId(1), [own])).toEqual([own]);
});

test("an answer that was lost leaves it unused, over a restart too", () => {
  const store = new MemoryStore();
  const held = made(store);
  held.asking(app.id, block);
  held.asked(app.id, block, false);
  expect(held.usable(nodeId(1), [own])).toEqual([]);
  expect(made(store).has(app.id, block)).toBe(true);
});

test("given anew it is usable, but not while a request to take it is on its way", () => {
  const held = made();
  held.asking(app.id, block);
  held.granted(own);
  expect(held.usable(nodeId(1), [own])).toEqual([]);
  held.asked(app.id, block, false);
  held.granted(own);
  expect(held.usable(nodeId(1), [own])).toEqual([own]);
});

test("what the state gives to nobody, or to another, is forgotten", () => {
  const store = new MemoryStore();
  const held = made(store);
  held.asking(app.id, block);
  held.asked(app.id, block, false);
  held.forget(nodeId(1), clusterState(2));
  expect(held.has(app.id, block)).toBe(true);
  held.forget(nodeId(1), clusterState(2, { blocks: [others] }));
  expect(held.has(app.id, block)).toBe(false);
  expect(made(store).has(app.id, block)).toBe(false);
});

test("a block whose return fails stays marked; one whose return is answered does not", async () => {
  const held = made();
  const lost = held.giveBack(own, () => Promise.reject(new Error("no controller")));
  await expect(lost).rejects.toThrow("no controller");
  expect(held.has(app.id, block)).toBe(true);
  held.granted(own);
  expect(held.has(app.id, block)).toBe(false);
  await held.giveBack(own, () => {
    held.granted(own);
    expect(held.has(app.id, block)).toBe(true);
    return Promise.resolve();
  });
  expect(held.has(app.id, block)).toBe(false);
});
