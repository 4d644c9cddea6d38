import assert from "node:assert/strict";

/**
 * An ELF file (64 bit, little-endian) without what only debuggers read: symbols and debug sections. strip(1) of a
 * machine knows that machine's files alone; this does both alike, whatever binutils are there.
 *
 * Layout: System V ABI, chapter 4 (gabi, "Object Files").
 */

const SHF_ALLOC = 2n;
const SHT_NULL = 0;
const SHT_SYMTAB = 2;
const SHT_STRTAB = 3;
const SHT_NOBITS = 8;
const HEADER_BYTES = 64;

interface Section {
  readonly index: number;
  readonly type: number;
  readonly isLoaded: boolean;
  readonly offset: number;
  readonly bytes: number;
}

export function isElf(file: Buffer): boolean {
  return file.subarray(0, 4).equals(Buffer.from("\x7fELF", "latin1"));
}

/** `e_machine`: 62 is x86-64, 183 aarch64. */
export const elfMachine = (file: Buffer): number => file.readUInt16LE(18);

export function stripElf(file: Buffer): Buffer {
  assert(isElf(file) && file[4] === 2 && file[5] === 1, "an ELF file, 64 bit, little-endian");
  const tableAt = Number(file.readBigUInt64LE(40));
  const names = file.readUInt16LE(62);
  const header = (index: number): Buffer =>
    file.subarray(tableAt + index * HEADER_BYTES, tableAt + (index + 1) * HEADER_BYTES);
  const sections = Array.from({ length: file.readUInt16LE(60) }, (_, index) =>
    section(header(index), index),
  );
  // The names' own table is kept whole: a few bytes of names that nothing has any more.
  const kept = sections.filter(
    ({ type, isLoaded, index }) => type === SHT_NULL || isLoaded || index === names,
  );
  const loadedEnd = Math.max(
    programHeadersEnd(file),
    ...kept
      .filter(({ isLoaded, type }) => isLoaded && type !== SHT_NOBITS)
      .map(({ offset, bytes }) => offset + bytes),
  );
  const nameTable = sections[names];
  assert(nameTable?.type === SHT_STRTAB, "a table of sections' names");
  const newTableAt = Math.ceil((loadedEnd + nameTable.bytes) / 8) * 8;
  const stripped = Buffer.alloc(newTableAt + kept.length * HEADER_BYTES);
  file.copy(stripped, 0, 0, loadedEnd);
  file.copy(stripped, loadedEnd, nameTable.offset, nameTable.offset + nameTable.bytes);
  const newIndex = new Map(kept.map(({ index }, position) => [index, position]));
  for (const [position, { index }] of kept.entries()) {
    const to = stripped.subarray(newTableAt + position * HEADER_BYTES);
    header(index).copy(to);
    if (index === names) to.writeBigUInt64LE(BigInt(loadedEnd), 24);
    // sh_link; and sh_info, where it names a section (relocations of a loaded file: of one that is loaded, or none).
    to.writeUInt32LE(newIndex.get(to.readUInt32LE(40)) ?? 0, 40);
    if ((to.readBigUInt64LE(8) & 0x40n) !== 0n)
      to.writeUInt32LE(newIndex.get(to.readUInt32LE(44)) ?? 0, 44);
  }
  stripped.writeBigUInt64LE(BigInt(newTableAt), 40);
  stripped.writeUInt16LE(kept.length, 60);
  stripped.writeUInt16LE(newIndex.get(names) ?? 0, 62);
  return stripped;
}

/** Whether there are symbols that only debuggers read. */
export function hasSymbols(file: Buffer): boolean {
  const tableAt = Number(file.readBigUInt64LE(40));
  return Array.from({ length: file.readUInt16LE(60) }).some(
    (_, index) => file.readUInt32LE(tableAt + index * HEADER_BYTES + 4) === SHT_SYMTAB,
  );
}

function section(header: Buffer, index: number): Section {
  return {
    index,
    type: header.readUInt32LE(4),
    isLoaded: (header.readBigUInt64LE(8) & SHF_ALLOC) !== 0n,
    offset: Number(header.readBigUInt64LE(24)),
    bytes: Number(header.readBigUInt64LE(32)),
  };
}

/** The end of what is mapped: segments may reach further than their sections. */
function programHeadersEnd(file: Buffer): number {
  const at = Number(file.readBigUInt64LE(32));
  const bytes = file.readUInt16LE(54);
  return Math.max(
    ...Array.from({ length: file.readUInt16LE(56) }, (_, index) => {
      const header = file.subarray(at + index * bytes);
      return Number(header.readBigUInt64LE(8) + header.readBigUInt64LE(32));
    }),
  );
}
