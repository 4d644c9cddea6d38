import { decode, encode } from "cborg";
import type { Random } from "../../shared/ports.ts";

/** A message as a tree of fields, which are changed, moved, doubled and taken away one at a time. */

type Tree = unknown;
type Holder = Record<string, Tree> | Tree[];

interface Place {
  readonly holder: Holder;
  readonly key: string;
}

/** Values that mean something somewhere, and values that nearly do. */
const VALUES: readonly ((random: Random) => Tree)[] = [
  () => null,
  () => true,
  () => "",
  () => 0,
  () => -1,
  () => 1.5,
  () => 2,
  () => Number.MAX_SAFE_INTEGER,
  () => "x".repeat(300),
  () => "é\u0000",
  () => [],
  () => ({}),
  () => ({ __proto__: null, constructor: 1 }),
  () => "10.192.1.0/24",
  () => "fd00::1",
  () => "02:42:0a:c0:01:05",
  () => "0f".repeat(16),
  () => nestedArray(200),
  (random) => Array.from({ length: random.below(2000) }, () => 0),
  (random) => random.below(2 ** 31),
  (random) => random.bytes([0, 16, 31, 32, 33, 64][random.below(6)]!),
];

/** The input with one to three of its fields changed; undefined: it is no such tree. */
export function mutateTree(
  input: Uint8Array,
  form: "cbor" | "json",
  random: Random,
): Uint8Array | undefined {
  const root = { root: read(input, form) };
  if (root.root === undefined) return undefined;
  for (let times = 1 + random.below(3); times > 0; times--) change(root, random);
  return write(root.root, form);
}

function change(root: { root: Tree }, random: Random): void {
  const places = placesIn(root);
  const place = (): Place => places[random.below(places.length)] ?? { holder: root, key: "root" };
  const { holder, key } = place();
  const other = place();
  switch (random.below(8)) {
    case 0:
      remove(holder, key);
      return;
    case 1:
      set(holder, key, structuredClone(get(other)));
      return;
    case 2:
      set(holder, Array.isArray(holder) ? String(holder.length) : `${key}2`, get({ holder, key }));
      return;
    case 3:
    case 4:
    case 5: {
      const value = get({ holder, key });
      set(holder, key, nearly(value, random));
      return;
    }
    default:
      set(holder, key, VALUES[random.below(VALUES.length)]!(random));
  }
}

/** Of the same type, and nearly the same. */
function nearly(value: Tree, random: Random): Tree {
  if (typeof value === "number") return value + random.below(3) - 1;
  if (typeof value === "boolean") return !value;
  if (value instanceof Uint8Array) {
    const bytes = Uint8Array.from(value);
    if (bytes.length > 0) bytes[random.below(bytes.length)]! ^= 1 << random.below(8);
    return bytes;
  }
  if (typeof value === "string") {
    const i = random.below(value.length + 1);
    const letters = "0123456789abcdef./:-A";
    return value.slice(0, i) + letters[random.below(letters.length)]! + value.slice(i + 1);
  }
  if (Array.isArray(value)) return value.toReversed();
  return value;
}

function placesIn(root: Holder): Place[] {
  const places: Place[] = [];
  const waiting: Holder[] = [root];
  for (let holder = waiting.pop(); holder !== undefined; holder = waiting.pop())
    for (const [key, value] of Object.entries(holder)) {
      places.push({ holder, key });
      if (typeof value === "object" && value !== null && !(value instanceof Uint8Array))
        waiting.push(value as Holder);
    }
  return places;
}

function get({ holder, key }: Place): Tree {
  return Array.isArray(holder) ? holder[Number(key)] : holder[key];
}

/** Also for `__proto__`, as a field of its own. */
function set(holder: Holder, key: string, value: Tree): void {
  Object.defineProperty(holder, key, {
    value,
    writable: true,
    enumerable: true,
    configurable: true,
  });
}

function remove(holder: Holder, key: string): void {
  if (Array.isArray(holder)) holder.splice(Number(key), 1);
  else delete holder[key];
}

function nestedArray(depth: number): Tree {
  let tree: Tree = 0;
  for (let i = 0; i < depth; i++) tree = [tree];
  return tree;
}

function read(input: Uint8Array, form: "cbor" | "json"): Tree {
  try {
    return form === "cbor" ? decode(input) : JSON.parse(new TextDecoder().decode(input));
  } catch {
    return undefined;
  }
}

function write(tree: Tree, form: "cbor" | "json"): Uint8Array | undefined {
  try {
    if (form === "cbor") return encode(tree);
    return new TextEncoder().encode(JSON.stringify(tree));
  } catch {
    // A place was put inside itself, or a value that this form has no word for.
    return undefined;
  }
}
