import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, test } from "vitest";

const root = resolve(import.meta.dirname, "../..");

function sources(folder: string): string[] {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(folder, name));
}

/** What a file imports: repository paths for its own files, package names otherwise. */
function importsOf(file: string): string[] {
  const text = readFileSync(join(root, file), "utf8");
  const found = text.matchAll(
    /(?:^|\n)\s*(?:import|export)\b[^;]*?from\s+"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)/g,
  );
  return [...found].map(([, from = "", dynamic = ""]) => {
    const name = from || dynamic;
    return name.startsWith(".") ? relative(root, resolve(root, dirname(file), name)) : name;
  });
}

/** What comes with a file when it is loaded: types do not, nor what is loaded when it is needed. */
function loadedBy(file: string, loaded = new Set<string>()): Set<string> {
  if (loaded.has(file)) return loaded;
  loaded.add(file);
  if (!existsSync(join(root, file))) return loaded;
  const text = readFileSync(join(root, file), "utf8");
  const found = text.matchAll(/(?:^|\n)(?:import|export)\b(?! type\b)[^;]*?from\s+"([^"]+)"/g);
  for (const [, name = ""] of found)
    loadedBy(
      name.startsWith(".") ? relative(root, resolve(root, dirname(file), name)) : name,
      loaded,
    );
  return loaded;
}

const PURE_PACKAGES = new Set(["zod", "cborg", "ip-address", "jose", "tweetnacl"]);

/**
 * From the lowest: a room needs those before it alone, so there is no circle of rooms. `agent`: what joins them to a
 * host (`agent.ts`, `start-order.ts`, `adapters.ts`, `lifecycle.ts`); `start`: what chooses the adapters and lives
 * through the host's states.
 */
const ROOMS = [
  "core",
  "store",
  "kernel",
  "encryption",
  "replication",
  "membership",
  "networks",
  "balancing",
  "names",
  "docker",
  "events",
  "agent",
  "api",
  "start",
  "cli",
];

function roomOf(file: string): string {
  const [, room = "", inside] = file.split("/");
  if (inside !== undefined) return room;
  return ["agent.ts", "start-order.ts", "adapters.ts", "lifecycle.ts"].includes(room)
    ? "agent"
    : "start";
}

const isVocabulary = (name: string): boolean =>
  name.startsWith("shared/") && !name.startsWith("shared/node/");

describe("arrows go one way", () => {
  test("the reader of imports reads them", () => {
    expect(importsOf("agent/core/data-plane/kernel-state.ts")).toContain("shared/ids.ts");
    expect(importsOf("shared/node/system.ts")).toContain("node:crypto");
  });

  const vocabulary = sources("shared").filter((file) => !file.startsWith("shared/node/"));

  test.each(vocabulary)("%s knows only the vocabulary", (file) => {
    const outside = importsOf(file).filter(
      (name) => !isVocabulary(name) && !PURE_PACKAGES.has(name),
    );
    expect(outside).toEqual([]);
  });

  test.each(sources("shared/node"))("%s knows the vocabulary and the machine", (file) => {
    const parts = importsOf(file).filter((name) => /^(agent|controller|test)\//.test(name));
    expect(parts).toEqual([]);
  });

  test.each([...sources("agent/core"), ...sources("controller/core")])("%s is pure", (file) => {
    const folder = file.startsWith("agent/") ? "agent/core/" : "controller/core/";
    const outside = importsOf(file).filter(
      (name) => !isVocabulary(name) && !name.startsWith(folder) && !PURE_PACKAGES.has(name),
    );
    expect(outside).toEqual([]);
  });

  test.each([...sources("shared"), ...sources("agent"), ...sources("controller")])(
    "%s does not need the tests",
    (file) => {
      expect(importsOf(file).filter((name) => name.startsWith("test/"))).toEqual([]);
    },
  );

  test.each(sources("controller"))("%s does not need the agent", (file) => {
    expect(importsOf(file).filter((name) => name.startsWith("agent/"))).toEqual([]);
  });

  test("every room of the agent has its place in the order, and a README", () => {
    const rooms = new Set(sources("agent").map(roomOf));
    expect([...rooms].toSorted()).toEqual([...ROOMS].toSorted());
    const folders = ROOMS.filter((room) => existsSync(join(root, "agent", room)));
    expect(folders.filter((room) => !existsSync(join(root, "agent", room, "README.md")))).toEqual(
      [],
    );
  });

  test.each(sources("agent"))("%s needs its own room and those below", (file) => {
    const own = ROOMS.indexOf(roomOf(file));
    const above = importsOf(file).filter(
      (name) => name.startsWith("agent/") && ROOMS.indexOf(roomOf(name)) > own,
    );
    expect(above).toEqual([]);
  });

  test("the agent's main thread loads neither the controller nor libp2p, which is in a worker", () => {
    const isLibp2p = (name: string): boolean => /^(@?libp2p|@chainsafe|@multiformats)\b/.test(name);
    expect([...loadedBy("agent/replication/gossip/mesh-worker.ts")].some(isLibp2p)).toBe(true);
    const loaded = loadedBy("agent/main.ts", loadedBy("agent/cli/services.ts"));
    expect(loaded).toContain("agent/kernel/reconciler.ts");
    expect([...loaded].filter(isLibp2p)).toEqual([]);
    expect(loaded).not.toContain("controller/main.ts");
  });

  test.each(["agent/names/server/names-worker.ts", "agent/balancing/balancing-worker.ts"])(
    "%s loads no parser of messages or addresses, which is megabytes of its heap",
    (worker) => {
      const loaded = loadedBy(worker);
      expect(loaded).toContain("agent/kernel/netns.ts");
      expect([...loaded].filter((name) => /^(zod|ip-address|cborg|netlink)$/.test(name))).toEqual(
        [],
      );
    },
  );

  test("no file needs itself by a circle of others", () => {
    const files = ["agent", "controller", "shared"].flatMap(sources);
    const needs = new Map(files.map((file) => [file, importsOf(file)]));
    const circles: string[][] = [];
    const clear = new Set<string>();
    const visit = (file: string, way: readonly string[]): void => {
      if (way.includes(file)) circles.push([...way.slice(way.indexOf(file)), file]);
      if (clear.has(file) || way.includes(file)) return;
      for (const needed of needs.get(file) ?? []) visit(needed, [...way, file]);
      clear.add(file);
    };
    for (const file of files) visit(file, []);
    expect(circles).toEqual([]);
  });
});
