import { copyFileSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { execFileSync } from "node:child_process";
import { join } from "node:path";

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
];

/** An image of one static program, as a tar for `docker import`: nothing comes from a registry. */
export function busyboxImage(directory: string): string {
  const root = join(directory, "image");
  const bin = join(root, "bin");
  rmSync(root, { recursive: true, force: true });
  mkdirSync(bin, { recursive: true });
  copyFileSync("/bin/busybox", join(bin, "busybox"));
  for (const applet of APPLETS) symlinkSync("busybox", join(bin, applet));
  const tar = join(directory, "image.tar");
  execFileSync("tar", ["-C", root, "-cf", tar, "."]);
  rmSync(root, { recursive: true });
  return tar;
}
