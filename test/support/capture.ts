import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { once } from "node:events";

const GLOBAL_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
const ETHERNET_BYTES = 14;
const PROTOCOL_ESP = 50;

/** Everything that passes a link, as tcpdump(8) writes it, until `stop`. */
export class Capture {
  readonly #file: string;
  readonly #process: ChildProcess;

  private constructor(file: string, process: ChildProcess) {
    this.#file = file;
    this.#process = process;
  }

  static async start(netns: string, link: string, file: string): Promise<Capture> {
    const command = [
      "tcpdump",
      "--immediate-mode",
      "-i",
      link,
      "-s0",
      "-U",
      "-n",
      "-Zroot",
      "-w",
      file,
    ];
    const child = spawn("nsenter", [`--net=${netns}`, ...command], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, PATH: `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin` },
    });
    let said = "";
    await new Promise<void>((resolve, reject) => {
      child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
        said += chunk;
        if (said.includes("listening on")) resolve();
      });
      child.once("error", reject);
      child.once("exit", () => reject(new Error(said)));
    });
    return new Capture(file, child);
  }

  async stop(): Promise<void> {
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGINT");
    await ended;
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

/** IPv4 and IPv6 without options or extension headers: what hosts here send. */
export function isEsp(frame: Buffer): boolean {
  const type = frame.readUInt16BE(12);
  const at = type === 0x0800 ? 9 : type === 0x86dd ? 6 : -1;
  return at >= 0 && frame[ETHERNET_BYTES + at] === PROTOCOL_ESP;
}
