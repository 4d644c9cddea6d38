import { thirdParties } from "./lock.ts";

/** What Debian's packages say of themselves: copyright (DEP-5), changelog (deb-changelog(5)). */

export const MAINTAINER = "overlay-ts maintainers <maintainers@overlay-ts.invalid>";

export function copyright(): string {
  const parties = thirdParties().map(
    ({ name, version, license }) => ` ${name} ${version}: ${license}`,
  );
  return `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: overlay-ts
Comment:
 Made from the sources by \`npm run package\`. The program has in it, or beside it, packages of npm, with these
 licenses; their texts, and those of Node.js and what that has in it, are in third-party.gz beside this file.
 .
${parties.join("\n")}

Files: *
Copyright: 2026 the authors of overlay-ts
License: Apache-2.0
 On Debian systems, the full text of the Apache License, version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
`;
}

/** Several packages of one repository have the same text: it is there once, below all of their names. */
export function thirdPartyTexts(node: string): string {
  const byText = Map.groupBy(thirdParties(), ({ text }) => text);
  const parts = [...byText].map(([text, parties]) => {
    const names = parties.map(({ name, version, license }) => `${name} ${version} (${license})`);
    return `${names.join("\n")}\n\n${text}`;
  });
  return [`Node.js\n\n${node.trim()}`, ...parts].join(`\n\n${"-".repeat(78)}\n\n`).concat("\n");
}

export function changelog(version: string, epoch: number): string {
  // RFC 5322's date, as Debian writes it.
  const date = new Date(epoch * 1000).toUTCString().replace("GMT", "+0000");
  return `overlay-ts (${version}) unstable; urgency=medium

  * Made from the sources; what changed is in CHANGES.md.gz.

 -- ${MAINTAINER}  ${date}
`;
}
