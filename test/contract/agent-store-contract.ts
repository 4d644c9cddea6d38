import { describe, expect, test } from "vitest";
import type { AgentStore } from "../../agent/store/port.ts";

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

/** What every AgentStore does. `make` opens a fresh one. */
export function agentStoreContract(name: string, make: () => AgentStore): void {
  describe(name, () => {
    test("what was put is got, what was deleted is not", () => {
      const store = make();
      store.write([{ kind: "put", key: "a/1", value: bytes(1, 2) }]);
      expect(store.get("a/1")).toEqual(bytes(1, 2));
      store.write([{ kind: "put", key: "a/1", value: bytes(3) }]);
      expect(store.get("a/1")).toEqual(bytes(3));
      store.write([{ kind: "delete", key: "a/1" }]);
      expect(store.get("a/1")).toBeUndefined();
      store.close();
    });

    test("a list holds the prefix only, in key order, wildcards taken literally", () => {
      const store = make();
      for (const key of ["b/1", "a_/2", "a/2", "a/1", "ax", "a%/3", "a/é"])
        store.write([{ kind: "put", key, value: bytes(0) }]);
      expect(store.list("a/").map((entry) => entry.key)).toEqual(["a/1", "a/2", "a/é"]);
      expect(store.list("a_").map((entry) => entry.key)).toEqual(["a_/2"]);
      expect(store.list("").length).toBe(7);
      store.close();
    });

    test("the caller's buffer is its own afterwards", () => {
      const store = make();
      const value = bytes(1);
      store.write([{ kind: "put", key: "k", value }]);
      value[0] = 9;
      expect(store.get("k")).toEqual(bytes(1));
      store.close();
    });
  });
}
