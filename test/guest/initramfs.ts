import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";

/**
 * `systemd`: a whole host, with a disk. `bare`: a kernel and this machine's programs, in memory, up in
 * seconds; whoever needs a kernel that can more than this machine's.
 */
export type GuestKind = "systemd" | "bare";

/** What the kernel needs before it can see the root, in Debian's names. */
const ROOT_MODULES = ["virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay"];
const MODULES = {
  systemd: [...ROOT_MODULES, "virtio_blk", "crc32c_generic", "ext4"],
  bare: ROOT_MODULES,
};
const FIRST_PROCESS = { systemd: "/lib/systemd/systemd", bare: "/bin/bash /etc/guest/bare.sh" };

const APPLETS = ["sh", "mount", "umount", "insmod", "mkdir", "cp", "rm", "cat", "touch", "echo"];

/** Started at boot, and kept from starting: there is no terminal, no network, nothing to clean. */
const ENABLED = {
  "multi-user.target.wants": ["docker.service", "containerd.service", "guest-control.service"],
  "sockets.target.wants": ["docker.socket"],
  "network-online.target.wants": ["guest-underlay.service"],
};
const MASKED = [
  "systemd-tmpfiles-setup.service",
  "systemd-tmpfiles-clean.timer",
  "systemd-logind.service",
  "getty.target",
];

/** The initial RAM disk (newc cpio): busybox, the modules, `init.sh` and the guest's own files. */
export function makeInitramfs(directory: string, kernel: string, kind: GuestKind): string {
  const tree = join(directory, "initramfs");
  for (const folder of ["bin", "modules.d", "proc", "sys", "dev"])
    mkdirSync(join(tree, folder), { recursive: true });
  copyFileSync("/bin/busybox", join(tree, "bin/busybox"));
  for (const applet of [...APPLETS, "switch_root", "poweroff"])
    symlinkSync("busybox", join(tree, "bin", applet));

  const modules = join(kernel, "lib/modules");
  const version = readdirSync(modules)[0] ?? "";
  const order = moduleOrder(
    readFileSync(join(modules, version, "modules.dep"), "utf8"),
    MODULES[kind],
  );
  const loaded = order.map((file) =>
    putModule(join(modules, version, file), join(tree, "modules.d")),
  );
  writeFileSync(join(tree, "modules"), loaded.map((name) => `/modules.d/${name}\n`).join(""));
  writeFileSync(join(tree, "modules-directory"), modules);
  writeFileSync(join(tree, "first"), FIRST_PROCESS[kind]);

  copyFileSync(join(import.meta.dirname, "init.sh"), join(tree, "init"));
  chmodSync(join(tree, "init"), 0o755);
  cpSync(join(import.meta.dirname, "files"), join(tree, "files"), { recursive: true });
  enable(join(tree, "files/etc/systemd/system"));

  const archive = join(directory, "initramfs.cpio");
  execFileSync("sh", ["-c", `find . | /bin/busybox cpio -o -H newc >"${archive}"`], {
    cwd: tree,
    stdio: ["ignore", "ignore", "ignore"],
  });
  return archive;
}

/** Decompressed, as busybox loads it (Debian 13's are not). Its file's name. */
function putModule(from: string, directory: string): string {
  const name = basename(from, ".xz");
  const bytes = from.endsWith(".xz")
    ? execFileSync("/bin/busybox", ["xzcat", from], { maxBuffer: 64 << 20 })
    : readFileSync(from);
  writeFileSync(join(directory, name), bytes);
  return name;
}

/** Each module after those it needs, from modules.dep(5): `file: needed needed`, files named once. */
export function moduleOrder(dependencies: string, names: readonly string[]): string[] {
  const needs = new Map<string, string[]>();
  for (const line of dependencies.split("\n")) {
    const [file, rest] = line.split(":");
    if (file !== undefined && rest !== undefined) needs.set(file, rest.split(" ").filter(Boolean));
  }
  const order: string[] = [];
  const add = (file: string): void => {
    if (order.includes(file)) return;
    // What a module needs is listed whole, nearest first.
    for (const needed of (needs.get(file) ?? []).toReversed())
      if (!order.includes(needed)) order.push(needed);
    order.push(file);
  };
  for (const name of names) {
    const file = [...needs.keys()].find((path) => basename(path).startsWith(`${name}.ko`));
    // One that is not listed is built in.
    if (file !== undefined) add(file);
  }
  return order;
}

function enable(units: string): void {
  for (const [wants, names] of Object.entries(ENABLED)) {
    mkdirSync(join(units, wants), { recursive: true });
    for (const name of names) {
      const own = name.startsWith("guest-") ? "/etc" : "/lib";
      symlinkSync(`${own}/systemd/system/${name}`, join(units, wants, name));
    }
  }
  for (const name of MASKED) symlinkSync("/dev/null", join(units, name));
}
