import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

const APPLETS = [
  "sh",
  "sleep",
  "ping",
  "ip",
  "nc",
  "cat",
  "arping",
  "wget",
  "httpd",
  "true",
  "echo",
  "nslookup",
  "kill",
  "rm",
  "touch",
  "usleep",
  "timeout",
];

/** Images as tars for `docker import`: nothing comes from a registry. */

/** One static program. */
export function busyboxImage(directory: string): string {
  return imageOf(directory, "image", () => {});
}

/** This machine's glibc, as a Debian image has it, and what asks it. */
export function glibcImage(directory: string, ...programs: readonly string[]): string {
  return imageOf(directory, "glibc", (root) => {
    const files = programs.flatMap((program) => [program, ...libraries(program)]);
    for (const file of new Set(files)) copyInto(root, file);
    mkdirSync(join(root, "etc"));
    writeFileSync(join(root, "etc/nsswitch.conf"), "hosts: files dns\n");
  });
}

const MUSL = "/lib/ld-musl-x86_64.so.1";

/** musl's libc, as an Alpine image has it, with `resolve` (resolve-musl.c). */
export function muslImage(directory: string): string {
  return imageOf(directory, "musl", (root) => {
    copyInto(root, MUSL);
    const source = join(import.meta.dirname, "resolve-musl.c");
    const options = ["-nostdlib", "-nostdinc", "-o", join(root, "bin/resolve"), source, MUSL];
    // Which loader tcc writes into the program; Debian's would be glibc's.
    execFileSync("tcc", options, { env: { ...process.env, LD_SO: MUSL } });
  });
}

/** busybox, and what `fill` adds to the root that it is given. */
function imageOf(directory: string, name: string, fill: (root: string) => void): string {
  const root = join(directory, name);
  const bin = join(root, "bin");
  rmSync(root, { recursive: true, force: true });
  mkdirSync(bin, { recursive: true });
  copyFileSync("/bin/busybox", join(bin, "busybox"));
  for (const applet of APPLETS) symlinkSync("busybox", join(bin, applet));
  fill(root);
  const tar = join(directory, `${name}.tar`);
  execFileSync("tar", ["-C", root, "-cf", tar, "."]);
  rmSync(root, { recursive: true });
  return tar;
}

/** What the loader will look for, as ldd(1) tells it: the loader itself among them. */
function libraries(program: string): string[] {
  const text = execFileSync("ldd", [program], { encoding: "utf8" });
  return [...text.matchAll(/(\/\S+) \(0x/g)].map(([, path = ""]) => path);
}

function copyInto(root: string, file: string): void {
  const target = join(root, file);
  mkdirSync(dirname(target), { recursive: true });
  copyFileSync(file, target);
}
