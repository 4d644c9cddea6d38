import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** What package-lock.json (version 3: keys are paths) says of the packages that the program consists of. */

export const ROOT = join(import.meta.dirname, "../..");

interface LockedPackage {
  readonly version: string;
  readonly integrity: string;
  readonly license?: string;
  readonly dev?: boolean;
  readonly optional?: boolean;
}

const { packages } = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as {
  readonly packages: Readonly<Record<string, LockedPackage>>;
};

export function lockedPackage(name: string): LockedPackage {
  const locked = packages[`node_modules/${name}`];
  if (locked === undefined) throw new Error(`${name} is not in package-lock.json`);
  return locked;
}

/** In the bundle or beside it: name, version, license, and the license's text where the package has one. */
export interface ThirdParty {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly text: string;
}

/** Of the program, without what only development or another machine needs, and without the bundler. */
export function thirdParties(): ThirdParty[] {
  return Object.entries(packages)
    .filter(([path, { dev, optional }]) => path !== "" && dev !== true && optional !== true)
    .map(([path, { version, license }]) => ({
      path,
      version,
      license,
      name: path.split("node_modules/").at(-1) ?? "",
    }))
    .filter(
      ({ name }) => !/^(@types|@rolldown|@oxc-project)\/|^rolldown$|^node-addon-api$/.test(name),
    )
    .map(({ path, name, version, license }) => ({
      name,
      version,
      license: license ?? "see its text",
      text: licenseText(join(ROOT, path)),
    }))
    .toSorted((a, b) => (`${a.name}@${a.version}` < `${b.name}@${b.version}` ? -1 : 1));
}

function licenseText(directory: string): string {
  if (!existsSync(directory)) return "";
  const file = readdirSync(directory)
    .toSorted()
    .find((name) => /^licen[cs]e/i.test(name));
  return file === undefined ? "" : readFileSync(join(directory, file), "utf8").trim();
}
