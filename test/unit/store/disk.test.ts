import { expect, test, vi } from "vitest";
import { z } from "zod";
import { Disk } from "../../../agent/store/disk.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { FillableStore } from "../../support/fillable-store.ts";

const N = z.object({ n: z.number() });

function made() {
  const store = new FillableStore();
  const changed = vi.fn<() => void>();
  return { store, changed, disk: new Disk(store, [], changed) };
}

test("what is put is on disk, or it was refused and nothing changed", () => {
  const { store, disk } = made();
  disk.put("a", { n: 1 });
  store.full = true;
  expect(() => disk.put("a", { n: 2 })).toThrow(/takes no writes/);
  expect(disk.get("a", N)).toEqual({ n: 1 });
  expect(disk.status()).toMatchObject({ owed: 0, failure: { code: "STORE" } });
  disk.close();
});

test("what is owed counts at once, and is written with the next thing that the disk takes", () => {
  const { store, disk, changed } = made();
  disk.put("old", { n: 0 });
  store.full = true;
  disk.owePut("a", { n: 1 });
  disk.owePut("a", { n: 2 });
  disk.oweDelete("old");
  expect(disk.get("a", N)).toEqual({ n: 2 });
  expect(disk.get("old", N)).toBeUndefined();
  expect(disk.keys("")).toContain("a");
  expect(disk.status().owed).toBe(2);
  expect(store.get("a")).toBeUndefined();
  store.full = false;
  disk.put("b", { n: 3 });
  expect(store.list("").map(({ key }) => key)).toEqual(["a", "b"]);
  expect(disk.status()).toMatchObject({ owed: 0, failure: undefined });
  // Told once that it takes none, and once that it does again.
  expect(changed).toHaveBeenCalledTimes(2);
  disk.close();
});

test("what is owed is written by itself when the disk takes it", () => {
  vi.useFakeTimers();
  const { store, disk } = made();
  store.full = true;
  disk.owePut("a", { n: 1 });
  vi.advanceTimersByTime(10_000);
  expect(disk.status().owed).toBe(1);
  store.full = false;
  vi.advanceTimersByTime(10_000);
  expect(store.get("a")).toEqual(encodeCbor({ n: 1 }));
  disk.close();
  vi.useRealTimers();
});

test("a later word for a key that is owed is the one that stays", () => {
  const { store, disk } = made();
  store.full = true;
  disk.owePut("a", { n: 1 });
  store.full = false;
  disk.put("a", { n: 2 });
  expect(disk.get("a", N)).toEqual({ n: 2 });
  expect(disk.status().owed).toBe(0);
  disk.close();
});

test.each([
  ["no CBOR", Uint8Array.of(0xff, 0xff)],
  ["of another shape", encodeCbor({ n: "one" })],
  ["cut off", encodeCbor({ n: 1 }).slice(0, 2)],
  ["empty", new Uint8Array()],
])("an entry that is %s is lost alone, and told", (_, value) => {
  const { store, disk } = made();
  disk.put("a/1", { n: 1 });
  store.write([{ kind: "put", key: "a/2", value }]);
  disk.put("a/3", { n: 3 });
  expect(disk.list("a/", N)).toEqual([{ n: 1 }, { n: 3 }]);
  expect(disk.status().losses).toMatchObject([{ what: "a/2" }]);
  expect(store.get("a/2")).toBeUndefined();
  expect(disk.list("a/", N)).toHaveLength(2);
  expect(disk.status().losses).toHaveLength(1);
  disk.close();
});
