import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");

const files = ["agent", "controller", "deploy", "shared", "test"].flatMap((top) =>
  readdirSync(join(root, top), { recursive: true, encoding: "utf8" }).map((file) =>
    join(top, file),
  ),
);
const names = new Set(files.map((file) => basename(file)));

/** What was decided names what there was then. */
const HISTORY = "shared/DECISIONS.md";
const documents = ["README.md", ...files.filter((file) => file.endsWith(".md"))].filter(
  (file) => file !== HISTORY,
);

/** Code spans that name a file or a folder of ours. */
function paths(text: string): string[] {
  const spans = [...text.matchAll(/`([^`\n]+)`/g)].map(([, span = ""]) => span);
  return spans.filter((span) => /^[\w./-]*\w(\.(ts|sh|mjs|md|c)|\/)$/.test(span));
}

/** From the document's folder, or from one above it; a name alone may be anywhere. */
function exists(document: string, path: string): boolean {
  if (!path.includes("/")) return names.has(path);
  for (let place = dirname(document); ; place = dirname(place)) {
    if (existsSync(join(root, place, path))) return true;
    if (place === ".") return existsSync(join(root, "agent", path));
  }
}

test.each(documents)("%s names files and folders that are there", (document) => {
  const text = readFileSync(join(root, document), "utf8");
  expect(paths(text).filter((path) => !exists(document, path))).toEqual([]);
});
