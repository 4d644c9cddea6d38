import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { eventually } from "./lab-host.ts";

const run = promisify(execFile);

/** pcap-savefile(5), little endian. */
const GLOBAL_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;

const ETHERNET_BYTES = 14;
const IPV6_BYTES = 40;
const UDP_BYTES = 8;
const PROTOCOL_UDP = 17;
const PROTOCOL_FRAGMENT = 44;
const PROTOCOL_ESP = 50;

/** Where nobody listens, and everybody's switch sends it. */
const BROADCAST = "198.51.100.255";

/** What a mark is looked for with. */
const TIMEOUT_MS = 60_000;

/**
 * Every frame between host `k` of these (TestHosts, Lab: their directory) and the switch while `work`
 * runs, which can see those so far, as tcpdump(8) got it. It ends with a mark of our own: what came before the mark is in it, or it
 * throws.
 */
export async function captured(
  directory: string,
  k: number,
  work: (soFar: () => Buffer[]) => Promise<unknown>,
): Promise<Buffer[]> {
  const last = newMarker();
  const file = join(directory, `capture-${last.toString("hex")}`);
  const capture = await Capture.start(join(directory, "switch"), `p${k}`, file);
  try {
    await work(() => capture.frames());
    await eventually(TIMEOUT_MS, "the end of the capture", async () => {
      // Nobody answers.
      const ping = ["ping", "-b", "-c", "1", "-W", "1", "-p", last.toString("hex"), BROADCAST];
      await run("nsenter", [`--net=${join(directory, `h${k}`)}`, ...ping]).catch(() => {});
      if (containing(capture.frames(), last) === 0) throw new Error("not seen yet");
    });
  } finally {
    await capture.stop();
  }
  return capture.frames();
}

/** What a packet is filled with so that it can be found. */
export function newMarker(): Buffer {
  return randomBytes(16);
}

/** Everything that passes a link, as tcpdump(8) writes it, until `stop`. */
export class Capture {
  readonly #file: string;
  readonly #end: () => Promise<string>;

  private constructor(file: string, end: () => Promise<string>) {
    this.#file = file;
    this.#end = end;
  }

  static async start(netns: string, link: string, file: string): Promise<Capture> {
    const options = ["--immediate-mode", "-B", "65536", "-s0", "-U", "-n", "-Zroot"];
    const child = spawn(
      "nsenter",
      [`--net=${netns}`, "tcpdump", "-i", link, ...options, "-w", file],
      {
        stdio: ["ignore", "ignore", "pipe"],
        env: { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` },
      },
    );
    let said = "";
    const ended = new Promise<string>((resolve) => child.once("close", () => resolve(said)));
    await new Promise<void>((resolve, reject) => {
      child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
        said += chunk;
        if (said.includes("listening on")) resolve();
      });
      child.once("error", reject);
      child.once("exit", () => reject(new Error(said)));
    });
    return new Capture(file, () => {
      child.kill("SIGINT");
      return ended;
    });
  }

  /** @throws when some are missing in it. */
  async stop(): Promise<void> {
    const said = await this.#end();
    if (!/\b0 packets dropped by kernel/.test(said)) throw new Error(`frames were lost: ${said}`);
  }

  /** Those so far. */
  frames(): Buffer[] {
    const bytes = readFileSync(this.#file);
    const frames: Buffer[] = [];
    for (let at = GLOBAL_HEADER_BYTES; at + RECORD_HEADER_BYTES <= bytes.length;) {
      const length = bytes.readUInt32LE(at + 8);
      const start = at + RECORD_HEADER_BYTES;
      if (start + length > bytes.length) break;
      frames.push(bytes.subarray(start, start + length));
      at = start + length;
    }
    return frames;
  }
}

/** How many have these bytes in them. */
export function containing(frames: readonly Buffer[], marker: Buffer): number {
  return frames.filter((frame) => frame.includes(marker)).length;
}

/** Of IPv4 without options, and of IPv6 without extension headers: what hosts here send. */
function payloadOf(frame: Buffer): { protocol: number | undefined; payload: Buffer } | undefined {
  const packet = frame.subarray(ETHERNET_BYTES);
  switch (frame.readUInt16BE(12)) {
    case 0x0800:
      return { protocol: packet[9], payload: packet.subarray(20) };
    case 0x86dd:
      return { protocol: packet[6], payload: packet.subarray(IPV6_BYTES) };
    default:
      return undefined;
  }
}

export function isEsp(frame: Buffer): boolean {
  return payloadOf(frame)?.protocol === PROTOCOL_ESP;
}

export interface Datagram {
  readonly destinationPort: number;
  readonly payload: Buffer;
}

/** UDP in the clear of IP; undefined: something else. */
export function datagramOf(frame: Buffer): Datagram | undefined {
  const { protocol, payload } = payloadOf(frame) ?? {};
  if (payload === undefined || protocol !== PROTOCOL_UDP) return undefined;
  return { destinationPort: payload.readUInt16BE(2), payload: payload.subarray(UDP_BYTES) };
}

/** Those to this UDP port. */
export function onPort(frames: readonly Buffer[], port: number): Datagram[] {
  return frames
    .flatMap((frame) => datagramOf(frame) ?? [])
    .filter(({ destinationPort }) => destinationPort === port);
}

/** A piece of a packet that was too large for the link (RFC 791: flags and offset; RFC 8200, 4.5). */
export function isFragment(frame: Buffer): boolean {
  const etherType = frame.readUInt16BE(12);
  if (etherType === 0x0800) return (frame.readUInt16BE(20) & 0x3fff) !== 0;
  return etherType === 0x86dd && payloadOf(frame)?.protocol === PROTOCOL_FRAGMENT;
}
