import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseAst } from "rolldown/parseAst";
import { describe, expect, test } from "vitest";

/**
 * What a reader has to keep in mind at once has a bound: lines of a function, and what a class is given to work with.
 * Who needs more says here why; a number that is lower by now is lowered here too.
 */

const LINES = 80;
const LONGER: Readonly<Record<string, readonly [lines: number, why: string]>> = {};

const COLLABORATORS = 8;
const MORE: Readonly<Record<string, readonly [collaborators: number, why: string]>> = {
  "agent/docker/network-sync.ts": [
    12,
    "the one place that holds the engine's networks against the cluster's",
  ],
  "agent/membership/failure-detector.ts": [
    9,
    "four are functions that name what one class of encryption has",
  ],
  "agent/encryption/wireguard/class.ts": [
    10,
    "it says to three readers what is new: a key, paths, a failure; and asks who changes its address",
  ],
  "agent/encryption/ipsec/class.ts": [
    10,
    "as WireGuard's, and it opens and closes the class's port",
  ],
};

interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}

const root = resolve(import.meta.dirname, "../..");

function sources(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => join(folder, name));
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "type" in value;
}

/** All nodes below, each with the name of what it is part of. */
function nodesIn(value: unknown, name = "", found: [Node, string][] = []): [Node, string][] {
  if (Array.isArray(value)) for (const each of value) nodesIn(each, name, found);
  if (!isNode(value)) return found;
  const own = nameOf(value) ?? name;
  found.push([value, own]);
  for (const below of Object.values(value)) nodesIn(below, own, found);
  return found;
}

function nameOf(node: Node): string | undefined {
  for (const id of [node["id"], node["key"]])
    if (isNode(id) && typeof id["name"] === "string") return id["name"];
  return undefined;
}

const FUNCTIONS = ["FunctionDeclaration", "FunctionExpression", "ArrowFunctionExpression"];

function functionsOf(text: string, ast: Node): { name: string; lines: number }[] {
  return nodesIn(ast)
    .filter(([{ type }]) => FUNCTIONS.includes(type))
    .map(([{ start, end }, name]) => ({ name, lines: text.slice(start, end).split("\n").length }));
}

/** Of shared/ports.ts: they are the same for everybody. */
const PORTS = ["Log", "Clock", "Timers", "Random", "Hasher", "Signer", "Verifier"];
const VALUES = ["NodeId", "Ip", "Secret"];

/** A function or another part, and no value. */
function isCollaborator(type: unknown): boolean {
  if (!isNode(type)) return false;
  if (type.type === "TSTypeAnnotation") return isCollaborator(type["typeAnnotation"]);
  if (type.type === "TSUnionType") return (type["types"] as unknown[]).some(isCollaborator);
  if (type.type === "TSFunctionType") return true;
  const name = referred(type);
  return name !== undefined && ![...PORTS, ...VALUES].includes(name);
}

/** What a type refers to, also by `Pick` or `Omit`. */
function referred(type: unknown): string | undefined {
  if (!isNode(type) || type.type !== "TSTypeReference") return undefined;
  const { typeName, typeArguments } = type;
  const name = isNode(typeName) ? typeName["name"] : undefined;
  const [first] = isNode(typeArguments) ? (typeArguments["params"] as unknown[]) : [];
  return name === "Pick" || name === "Omit" ? referred(first) : (name as string);
}

type Interfaces = ReadonlyMap<string, Node>;

function interfacesOf(asts: Iterable<Node>): Interfaces {
  const found = [...asts].flatMap((ast) => nodesIn(ast));
  return new Map(
    found.flatMap(([node, name]) =>
      node.type === "TSInterfaceDeclaration" ? [[name, node] as const] : [],
    ),
  );
}

function membersOf(declared: Node, interfaces: Interfaces): Node[] {
  const above = (declared["extends"] as Node[]).flatMap(({ expression }) => {
    const base = isNode(expression) ? interfaces.get(String(expression["name"])) : undefined;
    return base === undefined ? [] : membersOf(base, interfaces);
  });
  return [...above, ...((declared["body"] as Node)["body"] as Node[])];
}

/** By parameter; of an interface `…Modules`, by member. */
function collaboratorsOf(constructed: Node, interfaces: Interfaces): number {
  const parameters = (constructed["value"] as Node)["params"] as Node[];
  return parameters
    .map((parameter) => (parameter.type === "AssignmentPattern" ? parameter["left"] : parameter))
    .flatMap((parameter) => {
      const annotated = (parameter as Node)["typeAnnotation"];
      const name = isNode(annotated) ? referred(annotated["typeAnnotation"]) : undefined;
      const modules = name?.endsWith("Modules") === true ? interfaces.get(name) : undefined;
      if (modules === undefined) return [isCollaborator(annotated)];
      return membersOf(modules, interfaces).map(
        (member) => member.type === "TSMethodSignature" || isCollaborator(member["typeAnnotation"]),
      );
    })
    .filter(Boolean).length;
}

const parse = (text: string): Node => parseAst(text, { lang: "ts" }) as unknown as Node;

describe("what is measured", () => {
  test("is every function, by its lines", () => {
    const text = "class A {\n  #go() {\n    const f = () =>\n      1;\n  }\n}\n";
    expect(functionsOf(text, parse(text))).toEqual([
      { name: "go", lines: 4 },
      { name: "f", lines: 2 },
    ]);
  });

  test("is every part and function that a constructor is given, also by what its modules extend", () => {
    const ast = parse(`
      interface Base { readonly tables: Tables; readonly changed?: () => void; readonly log: Log }
      interface AModules extends Base { readonly mesh: Pick<Mesh, "ask">; readonly node: NodeId; say(): void }
      class A { constructor(modules: AModules, disk: Disk | undefined, self: string, n = 3) {} }`);
    const constructed = nodesIn(ast).find(([{ kind }]) => kind === "constructor");
    expect(collaboratorsOf(constructed![0], interfacesOf([ast]))).toBe(5);
  });
});

const texts = new Map(
  ["agent", "controller", "shared", "deploy"]
    .flatMap(sources)
    .map((file) => [file, readFileSync(join(root, file), "utf8")] as const),
);
const asts = new Map([...texts].map(([file, text]) => [file, parse(text)] as const));

test(`no function is longer than ${LINES} lines, unless it is said why`, () => {
  const functions = [...asts].flatMap(([file, ast]) =>
    functionsOf(texts.get(file)!, ast).map(({ name, lines }) => ({
      which: `${file} ${name}`,
      lines,
    })),
  );
  expect(functions.length).toBeGreaterThan(3000);
  const longer = functions.filter(({ which, lines }) => lines > (LONGER[which]?.[0] ?? LINES));
  expect(longer).toEqual([]);
});

test(`no constructor is given more than ${COLLABORATORS} parts, unless it is said why`, () => {
  const interfaces = interfacesOf(asts.values());
  const constructors = [...asts].flatMap(([file, ast]) =>
    nodesIn(ast)
      .filter(([{ type, kind }]) => type === "MethodDefinition" && kind === "constructor")
      .map(([node]) => ({ file, collaborators: collaboratorsOf(node, interfaces) })),
  );
  expect(constructors.length).toBeGreaterThan(100);
  const more = constructors.filter(
    ({ file, collaborators }) => collaborators > (MORE[file]?.[0] ?? COLLABORATORS),
  );
  expect(more).toEqual([]);
});
