import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { TestHosts } from "./hosts.ts";
import { eventually } from "./lab-host.ts";

export interface CapturedFrame {
  readonly atMs: number;
  readonly bytes: Buffer;
}

/**
 * Every frame between host 1 and the switch while `work` runs, as tcpdump(8) got it. It ends with a
 * mark of our own: what came before the mark is in it, or it throws.
 */
export async function captured(
  hosts: TestHosts,
  work: () => Promise<unknown>,
): Promise<CapturedFrame[]> {
  const file = join(hosts.directory, "capture.pcap");
  const options = ["--interface", "p1", "--immediate-mode", "-B", "16384", "-s", "0", "-w", file];
  const child = spawn(
    "nsenter",
    [`--net=${join(hosts.directory, "switch")}`, "tcpdump", "-Z", "root", "-U", ...options],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  const ended = new Promise((resolve) => child.once("close", resolve));
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (said += chunk));
  child.once("error", (error) => (said += error.message));
  try {
    await eventually(20_000, "a capture", async () => {
      if (!said.includes("listening on")) throw new Error(said);
    });
    await work();
    const mark = randomBytes(16).toString("hex");
    await hosts.ping(join(hosts.directory, "h1"), "198.51.100.255", "-b", "-c", "1", "-p", mark);
    await eventually(20_000, "the end of the capture", async () => {
      if (!readFileSync(file).includes(mark, 0, "hex")) throw new Error(said);
    });
  } finally {
    child.kill("SIGINT");
    await ended;
  }
  if (!/\b0 packets dropped by kernel/.test(said)) throw new Error(`frames were lost: ${said}`);
  return frames(readFileSync(file));
}

/** The format of pcap-savefile(5), little endian. */
function frames(file: Buffer): CapturedFrame[] {
  const found: CapturedFrame[] = [];
  for (let at = 24; at + 16 <= file.length;) {
    const length = file.readUInt32LE(at + 8);
    found.push({
      atMs: file.readUInt32LE(at) * 1000 + file.readUInt32LE(at + 4) / 1000,
      bytes: file.subarray(at + 16, at + 16 + length),
    });
    at += 16 + length;
  }
  return found;
}

export interface Datagram {
  readonly destinationPort: number;
  readonly payload: Buffer;
}

/** UDP in IPv4 without options or IPv6 without extension headers; undefined: something else. */
export function datagramOf({ bytes }: CapturedFrame): Datagram | undefined {
  const etherType = bytes.readUInt16BE(12);
  const at = etherType === 0x0800 ? 34 : etherType === 0x86dd ? 54 : undefined;
  const protocol = etherType === 0x0800 ? bytes[23] : bytes[20];
  if (at === undefined || protocol !== 17) return undefined;
  return { destinationPort: bytes.readUInt16BE(at + 2), payload: bytes.subarray(at + 8) };
}

/** A piece of a packet that was too large for the link (RFC 791: flags and offset; RFC 8200, 4.5). */
export function isFragment({ bytes }: CapturedFrame): boolean {
  const etherType = bytes.readUInt16BE(12);
  if (etherType === 0x0800) return (bytes.readUInt16BE(20) & 0x3fff) !== 0;
  return etherType === 0x86dd && bytes[20] === 44;
}
