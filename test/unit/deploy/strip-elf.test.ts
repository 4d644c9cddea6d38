import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { elfMachine, hasSymbols, isElf, stripElf } from "../../../deploy/package/strip-elf.ts";

const PREBUILDS = join(import.meta.dirname, "../../../node_modules/netlink/prebuilds");

test.each([
  ["x64", 62],
  ["arm64", 183],
])("%s: without symbols, all that is loaded is as it was", (machine, elf) => {
  const before = readFileSync(join(PREBUILDS, `linux-${machine}`, "node.napi.node"));
  const after = stripElf(before);
  expect([isElf(after), elfMachine(after)]).toEqual([true, elf]);
  expect([hasSymbols(before), hasSymbols(after)]).toEqual([true, false]);
  expect(after.length).toBeLessThan(before.length);
  expect(stripElf(after).equals(after)).toBe(true);
  // Segments: what the loader maps, by the program headers, which stay where they are.
  const at = Number(after.readBigUInt64LE(32));
  let mapped = 0;
  for (let index = 0; index < after.readUInt16LE(56); index++) {
    const header = after.subarray(at + index * 56, at + (index + 1) * 56);
    if (header.readUInt32LE(0) !== 1) continue;
    const offset = Number(header.readBigUInt64LE(8));
    const bytes = Number(header.readBigUInt64LE(32));
    // The ELF header says where the sections' table is.
    const from = Math.max(offset, 64);
    expect(after.subarray(from, offset + bytes).equals(before.subarray(from, offset + bytes))).toBe(
      true,
    );
    mapped += bytes;
  }
  expect(mapped).toBeGreaterThan(0);
});

test("a program of this machine runs on without them", () => {
  const directory = mkdtempSync(join(tmpdir(), "ovt-strip-"));
  try {
    const program = join(directory, "true");
    writeFileSync(program, stripElf(readFileSync("/bin/true")));
    chmodSync(program, 0o755);
    execFileSync(program);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("what is no such file is refused", () => {
  expect(() => stripElf(Buffer.alloc(100))).toThrow("an ELF file");
});
