import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAst } from "rolldown/parseAst";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "../..");

interface Node {
  readonly type: string;
  readonly start: number;
  readonly properties?: readonly {
    readonly key?: { readonly name?: string };
    /** As in a log's fields, or of a failure that is handed on. */
    readonly shorthand?: boolean;
  }[];
}

/** Objects with a `code` and a `message`: what is thrown or answered as a failure. */
function failuresOf(text: string): { readonly line: number; readonly keys: readonly unknown[] }[] {
  const found: { line: number; keys: readonly unknown[] }[] = [];
  const visit = (value: unknown): void => {
    if (typeof value !== "object" || value === null) return;
    const { type, start, properties = [] } = value as Node;
    const keys = properties.map(({ key }) => key?.name);
    const isNew = properties.some(({ key, shorthand }) => key?.name === "code" && !shorthand);
    if (type === "ObjectExpression" && isNew && keys.includes("message"))
      found.push({ line: text.slice(0, start).split("\n").length, keys });
    for (const inner of Object.values(value)) visit(inner);
  };
  visit(parseAst(text, { lang: "ts" }));
  return found;
}

test("the reader of failures reads them", () => {
  const text =
    'f({ code, message }); f({ code: "A" });\nthrow new E({ code: "A", message: `b`, ...c });';
  expect(failuresOf(text)).toEqual([{ line: 2, keys: ["code", "message", undefined] }]);
});

/** What a person meets: answers of the controller, of the agent, and what commands say by themselves. */
const MET = ["controller", "agent/cli", "agent/api", "agent/membership", "agent/networks"];

test.each(MET)("whatever is refused in %s, it is said what can be done", (folder) => {
  const files = readdirSync(join(root, folder), { recursive: true, encoding: "utf8" });
  const failures = files
    .filter((file) => file.endsWith(".ts"))
    .flatMap((file) =>
      failuresOf(readFileSync(join(root, folder, file), "utf8")).map((found) => ({
        file,
        ...found,
      })),
    );
  expect(failures.length).toBeGreaterThan(1);
  const without = failures.filter(({ keys }) => !keys.includes("next"));
  expect(without.map(({ file, line }) => `${file}:${line}`)).toEqual([]);
});
