import { describe, expect, test } from "vitest";
import type { ControllerStore, RowChanges } from "../../controller/store/port.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** `a=1` is put, `-b` dropped. */
function changes(...rows: string[]): RowChanges {
  const put = rows.flatMap((row): [string, Uint8Array][] => {
    const [key = "", value] = row.split("=");
    return value === undefined ? [] : [[key, bytes(value)]];
  });
  const drop = rows.flatMap((row) => (row.startsWith("-") ? [row.slice(1)] : []));
  return { put, drop };
}

async function held(store: ControllerStore): Promise<[number, string[]] | undefined> {
  const read = await store.read();
  if (read === undefined) return undefined;
  const text = new TextDecoder();
  return [read.version, [...read.rows].map(([key, value]) => `${key}=${text.decode(value)}`)];
}

/** What every store of the controller does; `open` twice gives two handles on the same record. */
export function controllerStoreContract(open: () => ControllerStore): void {
  test("empty, then what was written, one version a write", async () => {
    const store = open();
    expect(await store.head()).toBeUndefined();
    expect(await store.read()).toBeUndefined();
    expect(await store.write(0, changes("b=1", "a=2"))).toBe(true);
    expect(await held(store)).toEqual([1, ["b=1", "a=2"]]);
    expect(await store.write(1, changes("c=3", "b=4"))).toBe(true);
    expect(await held(store)).toEqual([2, ["b=4", "a=2", "c=3"]]);
    expect(await store.write(2, changes("-a", "-none"))).toBe(true);
    expect(await held(store)).toEqual([3, ["b=4", "c=3"]]);
  });

  test("a write on an old version changes nothing", async () => {
    const store = open();
    await store.write(0, changes("a=1"));
    await store.write(1, changes("a=2"));
    const head = await store.head();
    for (const old of [0, 1, 3]) expect(await store.write(old, changes("a=3", "b=1"))).toBe(false);
    expect(await held(store)).toEqual([2, ["a=2"]]);
    expect(await store.head()).toEqual(head);
  });

  test("of two writers on one version one wins, with all that it changes", async () => {
    const store = open();
    await store.write(0, changes("a=0"));
    const won = await Promise.all(
      ["x", "y"].map((v) => store.write(1, changes(`a=${v}`, `b=${v}`))),
    );
    expect(won.filter(Boolean)).toHaveLength(1);
    const winner = won[0] === true ? "x" : "y";
    expect(await held(store)).toEqual([2, [`a=${winner}`, `b=${winner}`]]);
  });

  describe("the head", () => {
    test("is that of what is read, and another one after each write", async () => {
      const store = open();
      const marks: string[] = [];
      for (let version = 0; version < 3; version++) {
        await store.write(version, changes(`a=${version}`));
        const head = (await store.head())!;
        expect(await store.read()).toMatchObject(head);
        marks.push(head.mark);
      }
      expect(new Set(marks).size).toBe(3);
    });
  });
}
