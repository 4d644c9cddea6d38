import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, readdirSync, rmSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { lockedPackage } from "./lock.ts";

/**
 * A package as npm's registry has it, in the version and with the hash of package-lock.json, unpacked into
 * `directory`: also one for another machine, which `npm install` leaves out here. What was fetched before comes from
 * npm's own cache.
 */
export function unpackPackage(name: string, directory: string): void {
  const { version, integrity } = lockedPackage(name);
  mkdirSync(directory, { recursive: true });
  const fetched = mkdtempSync(`${directory}.fetched-`);
  try {
    execFileSync(
      "npm",
      ["pack", "--silent", "--prefer-offline", "--pack-destination", fetched, `${name}@${version}`],
      { cwd: fetched, stdio: ["ignore", "ignore", "inherit"] },
    );
    const [file = ""] = readdirSync(fetched);
    const bytes = readFileSync(join(fetched, file));
    const hash = `sha512-${createHash("sha512").update(bytes).digest("base64")}`;
    if (hash !== integrity)
      throw new Error(
        `${name}@${version} from npm has the hash ${hash}, package-lock.json says ${integrity}: ` +
          "not the package that was tested; look at the registry that npm is set to",
      );
    execFileSync("tar", ["-xzf", join(fetched, file), "-C", directory, "--strip-components=1"]);
  } finally {
    rmSync(fetched, { recursive: true, force: true });
  }
}
