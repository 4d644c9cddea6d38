import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { join, relative } from "node:path";
import { VERSION } from "../../shared/version.ts";
import { MAINTAINER } from "./documents.ts";
import { filesBelow, type Machine } from "./tree.ts";

/** What dpkg reads of the package itself (deb-control(5)): what it needs, its hashes, the maintainer's scripts. */

const SCRIPTS = ["preinst", "postinst", "prerm", "postrm"] as const;

/**
 * By hand, from what the binaries ask for (`objdump -T`: GLIBC_2.28, GLIBCXX_3.4.21): dpkg-shlibdeps writes the version that
 * this machine has, which would lock older releases out.
 */
const DEPENDS = [
  "libc6 (>= 2.28)",
  "libgcc-s1 | libgcc1",
  "libstdc++6 (>= 5)",
  // Loaded by the program; and the programs that take it off a host.
  "libnftables1",
  "nftables",
  "iproute2",
  "init-system-helpers (>= 1.54)",
];

export function controlFiles(tree: string, machine: Machine): Record<string, string> {
  const files = filesBelow(tree);
  const kilobytes = files.reduce((sum, path) => sum + Math.ceil(statSync(path).size / 1024), 0);
  const control = `Package: overlay-ts
Version: ${VERSION}
Architecture: ${machine}
Maintainer: ${MAINTAINER}
Installed-Size: ${kilobytes}
Depends: ${DEPENDS.join(", ")}
Suggests: docker.io | docker-ce, wireguard-go
Section: net
Priority: optional
Description: networks that span Docker hosts, without Swarm
 An agent on each host gives its Docker engine networks made of VXLAN, in clear
 or encrypted by WireGuard or IPsec. Agents tell each other over an encrypted
 gossip mesh which container is where, and answer containers for names. A
 controller on one host admits the others and defines networks; what runs does
 not need it.
 .
 The package has its own Node.js and needs no registry of npm.
`;
  const scripts = Object.fromEntries(
    SCRIPTS.map((name) => [name, readFileSync(join(import.meta.dirname, "debian", name), "utf8")]),
  );
  const sums = files.map((path) => {
    const sum = createHash("md5").update(readFileSync(path)).digest("hex");
    return `${sum}  ${relative(tree, path)}\n`;
  });
  return { control, ...scripts, md5sums: sums.join(""), conffiles: "/etc/default/overlay-ts\n" };
}
