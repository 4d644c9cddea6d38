import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAst } from "rolldown/parseAst";
import { expect, test } from "vitest";

const core = join(import.meta.dirname, "../../../controller/core");

interface Node {
  readonly type: string;
  readonly start: number;
  readonly properties?: readonly { readonly key?: { readonly name?: string } }[];
}

/** Objects with a `code` and a `message`: what is thrown or answered as a failure. */
function failuresOf(text: string): { readonly line: number; readonly keys: readonly unknown[] }[] {
  const found: { line: number; keys: readonly unknown[] }[] = [];
  const visit = (value: unknown): void => {
    if (typeof value !== "object" || value === null) return;
    const { type, start, properties = [] } = value as Node;
    const keys = properties.map(({ key }) => key?.name);
    if (type === "ObjectExpression" && keys.includes("code") && keys.includes("message"))
      found.push({ line: text.slice(0, start).split("\n").length, keys });
    for (const inner of Object.values(value)) visit(inner);
  };
  visit(parseAst(text, { lang: "ts" }));
  return found;
}

test("the reader of failures reads them", () => {
  const text = 'f({ code: "A" });\nthrow new E({ code: "A", message: `b`, ...c });';
  expect(failuresOf(text)).toEqual([{ line: 2, keys: ["code", "message", undefined] }]);
});

test("whatever the controller refuses, it says what can be done", () => {
  const failures = readdirSync(core).flatMap((file) =>
    failuresOf(readFileSync(join(core, file), "utf8")).map((failure) => ({ file, ...failure })),
  );
  expect(failures.length).toBeGreaterThan(35);
  const without = failures.filter(({ keys }) => !keys.includes("next"));
  expect(without.map(({ file, line }) => `${file}:${line}`)).toEqual([]);
});
