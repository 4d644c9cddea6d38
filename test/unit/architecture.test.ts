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

describe("arrows go one way", () => {
  test("the reader of imports reads them", () => {
    expect(importsOf("agent/core/data-plane.ts")).toContain("shared/ids.ts");
    expect(importsOf("agent/system.ts")).toContain("node:crypto");
  });

  test.each(sources("shared"))("%s knows only the vocabulary", (file) => {
    const outside = importsOf(file).filter(
      (name) => !name.startsWith("shared/") && !PURE_PACKAGES.has(name),
    );
    expect(outside).toEqual([]);
  });

  test.each([...sources("agent/core"), ...sources("controller/core")])("%s is pure", (file) => {
    const folder = file.startsWith("agent/") ? "agent/core/" : "controller/core/";
    const outside = importsOf(file).filter(
      (name) => !name.startsWith("shared/") && !name.startsWith(folder) && !PURE_PACKAGES.has(name),
    );
    expect(outside).toEqual([]);
  });

  test.each([...sources("shared"), ...sources("agent"), ...sources("controller")])(
    "%s does not need the tests",
    (file) => {
      expect(importsOf(file).filter((name) => name.startsWith("test/"))).toEqual([]);
    },
  );

  test.each(sources("controller").filter((file) => !file.startsWith("controller/core/")))(
    "%s knows of the agent only its identity",
    (file) => {
      const agent = importsOf(file).filter((name) => name.startsWith("agent/"));
      expect(agent.filter((name) => name !== "agent/gossip/identity.ts")).toEqual([]);
    },
  );
});
