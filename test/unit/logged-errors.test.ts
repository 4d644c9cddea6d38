import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseAst } from "rolldown/parseAst";
import { expect, test } from "vitest";

/**
 * An error is given to the log whole (`err: error`), so that stack and causes are in it. What has only a
 * Failure has no more to give; a refusal is an answer, and not an error of ours.
 */
const ONLY_ITS_MESSAGE: Readonly<Record<string, string>> = {
  "agent/kernel/reconciler.ts": "a Failure, which the pass loop made of it",
  "controller/controller.ts": "a refusal, which the host is told",
};

interface Node {
  readonly type: string;
  readonly [key: string]: unknown;
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "type" in value;
}

function nodesIn(value: unknown, found: Node[] = []): Node[] {
  if (Array.isArray(value)) for (const each of value) nodesIn(each, found);
  if (!isNode(value)) return found;
  found.push(value);
  for (const below of Object.values(value)) nodesIn(below, found);
  return found;
}

function named(value: unknown): string | undefined {
  if (!isNode(value)) return undefined;
  if (value.type === "MemberExpression") return named(value["property"]);
  return value["name"] as string | undefined;
}

const LEVELS = ["debug", "info", "warn", "error"];

/** The fields of `log.warn(fields, …)`, and of `log("warn", fields, …)` as threads have it. */
function loggedFields(ast: Node): Node[] {
  return nodesIn(ast).flatMap(({ type, callee, arguments: given }) => {
    if (type !== "CallExpression" || !isNode(callee)) return [];
    const [first, second] = given as Node[];
    if (named(callee) === "log" && LEVELS.includes(String(first?.["value"]))) return [second!];
    const isLog = LEVELS.includes(String(named(callee))) && named(callee["object"]) === "log";
    return isLog ? [first!] : [];
  });
}

function losesItsCause(fields: Node): boolean {
  return nodesIn(fields).some(
    (node) =>
      (node.type === "CallExpression" && named(node["callee"]) === "asFailure") ||
      (node.type === "Property" && named(node["key"]) === "message"),
  );
}

const parse = (text: string): Node => parseAst(text, { lang: "ts" }) as unknown as Node;

test.each([
  ["this.#log.warn({ ...asFailure(error) }, 'failed')", true],
  ["log.debug({ node, message: asFailure(error).message }, 'failed')", true],
  ["this.#log('warn', { message }, 'failed')", true],
  ["modules.log.error({ err: error, code }, 'failed')", false],
  ["console.error(asFailure(error))", false],
])("%s", (text, loses) => {
  expect(loggedFields(parse(text)).some(losesItsCause)).toBe(loses);
});

test("no error is logged without its stack and causes, unless it is said why", () => {
  const root = resolve(import.meta.dirname, "../..");
  const fields = ["agent", "controller", "shared"].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((name) => name.endsWith(".ts"))
      .map((name) => join(folder, name))
      .flatMap((file) =>
        loggedFields(parse(readFileSync(join(root, file), "utf8"))).map((each) => ({ file, each })),
      ),
  );
  expect(fields.length).toBeGreaterThan(80);
  const losing = fields.filter(({ each }) => losesItsCause(each)).map(({ file }) => file);
  expect([...new Set(losing)].toSorted()).toEqual(Object.keys(ONLY_ITS_MESSAGE));
});
