import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

/** The newer engines' roots, with other programs in the place of Debian's. */

const MIRROR = "http://mirror.example/debian/";
const WELL =
  'for d; do case $d in *.part) mkdir -p "$d/var/cache/apt" "$d/var/lib/apt";; esac; done';
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "ovt-debian-root-"));
  mkdirSync(join(directory, "bin"));
});

afterEach(() => rmSync(directory, { recursive: true }));

function program(name: string, script: string): void {
  const path = join(directory, "bin", name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
}

function debianRoot(release: string, { mirror = MIRROR, debootstrap = WELL } = {}) {
  program("apt-get", `echo "${mirror}"`);
  program("unshare", 'shift; exec "$@"');
  program("debootstrap", debootstrap);
  const { status, stdout, stderr } = spawnSync(
    join(import.meta.dirname, "../support/debian-root"),
    [release],
    {
      encoding: "utf8",
      env: {
        PATH: `${join(directory, "bin")}:${process.env["PATH"]}`,
        OVERLAY_TS_LAB_CACHE: join(directory, "cache"),
      },
    },
  );
  return { status, stdout: stdout.trim(), stderr };
}

const roots = (): string[] =>
  readdirSync(join(directory, "cache")).filter((name) => name.startsWith("forky-"));

test("a root is made once, from where this machine's packages come", () => {
  const made = debianRoot("forky");
  expect(made).toMatchObject({ status: 0 });
  expect(made.stdout).toBe(join(directory, "cache", roots()[0] ?? ""));
  const again = debianRoot("forky", { debootstrap: "exit 1" });
  expect(again).toEqual({ status: 0, stdout: made.stdout, stderr: "" });
});

test("a mirror without the release, or none: it is said which, and nothing is left that would be taken", () => {
  const failing = { debootstrap: "echo E: Failed getting release file; exit 1" };
  const failed = debianRoot("forky", failing);
  expect(failed.status).toBe(1);
  expect(failed.stderr).toContain("E: Failed getting release file");
  expect(failed.stderr).toContain("no root of Debian's forky for its Docker engine: debootstrap");
  expect(failed.stderr).toContain(MIRROR);
  expect(debianRoot("forky", { mirror: "" })).toMatchObject({ status: 1, stdout: "" });
  expect(roots()).toEqual([]);
  expect(debianRoot("forky").status).toBe(0);
});
