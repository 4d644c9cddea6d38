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

const PURE_PACKAGES = new Set(["zod", "cborg", "ip-address", "jose", "tweetnacl"]);

const isVocabulary = (name: string): boolean =>
  name.startsWith("shared/") && !name.startsWith("shared/node/");

describe("arrows go one way", () => {
  test("the reader of imports reads them", () => {
    expect(importsOf("agent/core/data-plane.ts")).toContain("shared/ids.ts");
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
});
