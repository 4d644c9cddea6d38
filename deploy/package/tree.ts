import {
  chmodSync,
  copyFileSync,
  cpSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { program } from "../../agent/cli/main.ts";
import { VERSION } from "../../shared/version.ts";
import { bundle } from "../bundle.ts";
import { commandTree } from "./command-tree.ts";
import { bash, fish, zsh } from "./completions.ts";
import { changelog, copyright, thirdPartyTexts } from "./documents.ts";
import { ROOT } from "./lock.ts";
import { manPage } from "./man-page.ts";
import { unpackPackage } from "./npm-files.ts";
import { elfMachine, isElf, stripElf } from "./strip-elf.ts";

/** The files of the package, as they lie on a host. */

/** Debian's name of a machine, npm's, and ELF's. */
export const MACHINES = {
  amd64: { npm: "x64", elf: 62 },
  arm64: { npm: "arm64", elf: 183 },
} as const;
export type Machine = keyof typeof MACHINES;

const PROGRAM = "usr/lib/overlay-ts";
const DEBIAN = join(import.meta.dirname, "debian");

/** Makes the tree below `directory`; every file's time is `epoch`, in seconds. */
export async function makeTree(directory: string, machine: Machine, epoch: number): Promise<void> {
  const at = (path: string): string => {
    const to = join(directory, path);
    mkdirSync(dirname(to), { recursive: true });
    return to;
  };
  const write = (path: string, content: string | Buffer): void => writeFileSync(at(path), content);
  await bundle(at(`${PROGRAM}/deploy/bundle`));
  rmSync(join(directory, PROGRAM, "deploy/bundle/packages"));
  for (const name of ["overlay-ts", "removal.sh"])
    copyFileSync(join(ROOT, "deploy", name), at(`${PROGRAM}/deploy/${name}`));
  const nodeLicense = copyPackages(directory, machine);
  mkdirSync(join(directory, "usr/bin"), { recursive: true });
  symlinkSync("../lib/overlay-ts/deploy/overlay-ts", join(directory, "usr/bin/overlay-ts"));
  for (const name of readdirSync(join(ROOT, "deploy/systemd")))
    write(`usr/lib/systemd/system/${name}`, unit(name));
  for (const [name, to] of [
    ["default", "etc/default/overlay-ts"],
    ["networkd", "usr/lib/systemd/network/10-overlay-ts.network"],
    ["network-manager", "usr/lib/NetworkManager/conf.d/10-overlay-ts.conf"],
    ["lintian-overrides", "usr/share/lintian/overrides/overlay-ts"],
  ] as const)
    copyFileSync(join(DEBIAN, name), at(to));
  const commands = commandTree(program);
  const day = new Date(epoch * 1000).toISOString().slice(0, 10);
  write("usr/share/man/man8/overlay-ts.8.gz", packed(manPage(commands, VERSION, day)));
  write("usr/share/bash-completion/completions/overlay-ts", bash(commands));
  write("usr/share/zsh/vendor-completions/_overlay-ts", zsh(commands));
  write("usr/share/fish/vendor_completions.d/overlay-ts.fish", fish(commands));
  const documents = "usr/share/doc/overlay-ts";
  write(`${documents}/copyright`, copyright());
  write(`${documents}/third-party.gz`, packed(thirdPartyTexts(nodeLicense)));
  write(`${documents}/changelog.gz`, packed(changelog(VERSION, epoch)));
  for (const [from, to] of [
    ["README.md", "README.md.gz"],
    ["deploy/README.md", "deploy.md.gz"],
    ["deploy/prometheus/README.md", "prometheus.md.gz"],
    ["CHANGELOG.md", "CHANGES.md.gz"],
  ] as const)
    write(`${documents}/${to}`, packed(readFileSync(join(ROOT, from))));
  for (const name of [
    "prometheus/alerts.yml",
    "prometheus/prometheus.yml",
    "grafana/overlay-ts.json",
  ])
    copyFileSync(join(ROOT, "deploy", name), at(`${documents}/examples/${name}`));
  settle(directory, epoch);
}

/** In a package the program is at another place. */
function unit(name: string): string {
  return readFileSync(join(ROOT, "deploy/systemd", name), "utf8")
    .replaceAll("/usr/local/bin/", "/usr/bin/")
    .replaceAll(
      "file:/usr/local/lib/overlay-ts/deploy/README.md",
      "man:overlay-ts(8) file:/usr/share/doc/overlay-ts/deploy.md.gz",
    )
    .replaceAll(
      "file:/usr/local/lib/overlay-ts/deploy/prometheus/README.md",
      "file:/usr/share/doc/overlay-ts/prometheus.md.gz",
    );
}

/**
 * Node and what the bundle loads from beside itself: the files that are read at run time, of this machine's kind.
 *
 * @returns Node's license, with those of what it has in it.
 */
function copyPackages(directory: string, machine: Machine): string {
  const { npm } = MACHINES[machine];
  const native = `@koromix/koffi-linux-${npm}`;
  const files: Readonly<Record<string, readonly string[]>> = {
    [`node-linux-${npm}`]: ["bin/node"],
    koffi: ["package.json", "index.js", "src/koffi/index.js", "src/koffi/src/static.js"],
    [native]: ["package.json", "index.js", `linux_${npm}/koffi.node`],
    netlink: ["package.json", "dist", `prebuilds/linux-${npm}/node.napi.node`],
    "node-gyp-build": ["package.json", "index.js", "node-gyp-build.js"],
  };
  const modules = join(directory, PROGRAM, "node_modules");
  const unpacked = `${directory}.npm`;
  for (const [name, wanted] of Object.entries(files)) {
    unpackPackage(name, join(unpacked, name));
    for (const each of wanted) {
      const to = name.startsWith("node-linux-") ? ".bin/node" : join(name, each);
      cpSync(join(unpacked, name, each), join(modules, to), { recursive: true, filter: isLoaded });
    }
  }
  const license = readFileSync(join(unpacked, `node-linux-${npm}`, "LICENSE"), "utf8");
  rmSync(unpacked, { recursive: true });
  for (const path of filesBelow(modules)) {
    const bytes = readFileSync(path);
    if (!isElf(bytes)) continue;
    if (elfMachine(bytes) !== MACHINES[machine].elf)
      throw new Error(`${path} is for another machine than ${machine}`);
    writeFileSync(path, stripElf(bytes));
  }
  return license;
}

/** Not: types, maps. */
const isLoaded = (path: string): boolean => !/\.(d\.ts|map)$/.test(path);

/** As compact as gzip does it, without a name and a time in it. */
const packed = (content: string | Buffer): Buffer => gzipSync(content, { level: 9 });

export function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted();
}

const PROGRAMS = /\/(overlay-ts\/deploy\/overlay-ts|\.bin\/node)$/;

/** Modes and times that are the same wherever and by whomever it is made; the owner is root by dpkg-deb. */
function settle(directory: string, epoch: number): void {
  const paths = readdirSync(directory, { recursive: true, encoding: "utf8" }).map((name) =>
    join(directory, name),
  );
  for (const path of [...paths, directory].toSorted().toReversed()) {
    const stat = lstatSync(path);
    if (!stat.isSymbolicLink())
      chmodSync(path, stat.isDirectory() || PROGRAMS.test(path) ? 0o755 : 0o644);
    lutimesSync(path, epoch, epoch);
  }
}
