import { expect, test } from "vitest";
import type { ControllerStore } from "../../controller/store/port.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** What every store of the controller does; `open` twice gives two handles on the same record. */
export function controllerStoreContract(open: () => ControllerStore): void {
  test("empty, then what was written, one version a write", async () => {
    const store = open();
    expect(await store.read()).toBeUndefined();
    expect(await store.write(0, bytes("a"))).toBe(true);
    expect(await store.read()).toEqual({ version: 1, bytes: bytes("a") });
    expect(await store.write(1, bytes("b"))).toBe(true);
    expect(await store.read()).toEqual({ version: 2, bytes: bytes("b") });
  });

  test("a write on an old version changes nothing", async () => {
    const store = open();
    await store.write(0, bytes("a"));
    await store.write(1, bytes("b"));
    for (const old of [0, 1, 3]) expect(await store.write(old, bytes("c"))).toBe(false);
    expect(await store.read()).toEqual({ version: 2, bytes: bytes("b") });
  });

  test("of two writers on one version one wins", async () => {
    const store = open();
    await store.write(0, bytes("a"));
    const won = await Promise.all(["x", "y"].map((text) => store.write(1, bytes(text))));
    expect(won.filter(Boolean)).toHaveLength(1);
  });
}
