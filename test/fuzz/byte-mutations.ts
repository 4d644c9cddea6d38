import type { Random } from "../../shared/ports.ts";

/** No input grows beyond this by one mutation's own doing. */
const MAX_GROWTH = 4096;

/** What length fields, versions and counts are compared with. */
const INTEGERS = [0n, 1n, 2n, 0x7fn, 0x80n, 0xffn, 0x7fffn, 0xffffn, 0x7fff_ffffn, 0xffff_ffffn];
const LARGE = [2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 64n - 1n];

/** CBOR (RFC 8949, 3): heads that promise what does not come, nesting, tags, floats, indefinite lengths. */
const CBOR_HEADS = [
  "9bffffffffffffffff",
  "9a7fffffff",
  "5b7fffffffffffffff",
  "7affffffff",
  "bb0000000100000000",
  "bf",
  "9f",
  "5f",
  "c1",
  "d9ffff",
  "f97e00",
  "fb7ff0000000000000",
  "f7",
  "fb433fffffffffffff",
  "1bffffffffffffffff",
  "3bffffffffffffffff",
].map((text) => Buffer.from(text, "hex"));

const TEXTS = ["{", "[", '"', "\\u0000", "\0", "\n", "\r\n\r\n", ".", "..", "=", "-1", "1e400", "é"]
  .concat(["__proto__", "null", "Content-Length: 9999999", "Transfer-Encoding: chunked", "%00"])
  .map((text) => Buffer.from(text));

export type ByteMutation = (
  input: Uint8Array,
  random: Random,
  corpus: readonly Uint8Array[],
) => Uint8Array;

const at = (input: Uint8Array, random: Random): number => random.below(input.length + 1);

function replaced(
  input: Uint8Array,
  from: number,
  removed: number,
  put: Uint8Array = new Uint8Array(),
): Uint8Array {
  return Buffer.concat([input.subarray(0, from), put, input.subarray(from + removed)]);
}

function range(input: Uint8Array, random: Random): [from: number, length: number] {
  const from = at(input, random);
  return [from, random.below(Math.min(input.length - from, 64) + 1)];
}

const flipBit: ByteMutation = (input, random) => {
  const changed = Uint8Array.from(input);
  const i = random.below(Math.max(1, input.length));
  if (i < changed.length) changed[i] = changed[i]! ^ (1 << random.below(8));
  return changed;
};

const setByte: ByteMutation = (input, random) =>
  replaced(input, at(input, random), 1, random.bytes(1));

const truncate: ByteMutation = (input, random) => input.slice(0, at(input, random));

const remove: ByteMutation = (input, random) => replaced(input, ...range(input, random));

const duplicate: ByteMutation = (input, random) => {
  const [from, length] = range(input, random);
  const times = Math.min(1 + random.below(8) ** 3, Math.ceil(MAX_GROWTH / (length + 1)));
  const part = Buffer.from(input.subarray(from, from + length));
  return replaced(input, from, 0, Buffer.concat(Array.from({ length: times }, () => part)));
};

const insert: ByteMutation = (input, random) =>
  replaced(input, at(input, random), 0, random.bytes(1 + random.below(16)));

const splice: ByteMutation = (input, random, corpus) => {
  const other = corpus[random.below(corpus.length)] ?? input;
  return Buffer.concat([
    input.subarray(0, at(input, random)),
    other.subarray(random.below(other.length + 1)),
  ]);
};

const integer: ByteMutation = (input, random) => {
  const all = [...INTEGERS, ...LARGE];
  const value = all[random.below(all.length)]!;
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  const width = [1, 2, 4, 8][random.below(4)]!;
  return replaced(input, at(input, random), width, bytes.subarray(8 - width));
};

const head: ByteMutation = (input, random) => {
  const put = CBOR_HEADS[random.below(CBOR_HEADS.length)]!;
  return replaced(input, at(input, random), random.below(2) * put.length, put);
};

const nested: ByteMutation = (input, random) => {
  const open = [0x81, 0xa1, 0x5b, 0x7b, 0xc0][random.below(5)]!;
  return replaced(input, at(input, random), 0, Buffer.alloc(1 + random.below(MAX_GROWTH), open));
};

const dictionary: ByteMutation = (input, random) =>
  replaced(input, at(input, random), random.below(4), TEXTS[random.below(TEXTS.length)]);

/** A run of digits becomes another number. */
const digits: ByteMutation = (input, random) => {
  const start = at(input, random);
  const isDigit = (i: number): boolean => (input[i] ?? 0) >= 0x30 && (input[i] ?? 0) <= 0x39;
  let from = start;
  while (from < input.length && !isDigit(from)) from++;
  let end = from;
  while (isDigit(end)) end++;
  const all = [...INTEGERS, ...LARGE];
  return replaced(
    input,
    from,
    end - from,
    Buffer.from(String(all[random.below(all.length)]! - 1n)),
  );
};

export const BYTE_MUTATIONS: readonly ByteMutation[] = [
  flipBit,
  setByte,
  truncate,
  remove,
  duplicate,
  insert,
  splice,
  integer,
  head,
  nested,
  dictionary,
  digits,
];
