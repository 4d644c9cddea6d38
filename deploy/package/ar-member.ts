/** A member of an archive of ar(5), which a Debian package is (deb(5)): a header of 60 bytes before each. */
export function member(archive: Buffer, name: string): Buffer {
  const MAGIC = "!<arch>\n";
  for (let at = MAGIC.length; at < archive.length;) {
    const header = archive.toString("latin1", at, at + 60);
    const bytes = Number(header.slice(48, 58));
    if (header.slice(0, 16).trim().replace(/\/$/, "") === name)
      return archive.subarray(at + 60, at + 60 + bytes);
    at += 60 + bytes + (bytes % 2);
  }
  throw new Error(`the archive has no ${name}`);
}
