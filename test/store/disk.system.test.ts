// @module-tag never

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";
import { agentFiles, ensureIdentity } from "../../agent/membership/membership-files.ts";
import type { NotRunning } from "../../agent/api/status.ts";
import { Disk } from "../../agent/store/disk.ts";
import { openStore } from "../../agent/store/open-store.ts";
import { callUnix } from "../../shared/node/unix-http.ts";
import { recordings } from "../fixtures/recordings.ts";

/** Real file systems: one of 1 MB that fills up, one that is mounted read-only, and a whole agent. */

const root = mkdtempSync(join(tmpdir(), "ovt-mounts-"));
const mounted: string[] = [];
let directory: string;
let path: string;
let disk: Disk | undefined;

const Bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array);
const scratch = join(root, "scratch");

function mount(...options: readonly string[]): void {
  execFileSync("mount", [...options, directory]);
}

beforeEach(() => {
  directory = mkdtempSync(join(root, "d-"));
  path = join(directory, "agent.db");
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m,mode=0700", "overlay-ts-test", directory]);
  mounted.push(directory);
});
afterEach(() => {
  disk?.close();
  disk = undefined;
  for (const where of mounted.splice(0)) execFileSync("umount", ["-l", where]);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

function open(): Disk {
  const { store, losses } = openStore(path, { scratch, wallMs: Date.now() });
  disk = new Disk(store, losses);
  return disk;
}

/** Not a byte is left. */
function fill(): void {
  for (const size of [64 * 1024, 4096, 512, 1])
    for (let i = 0; ; i++)
      try {
        writeFileSync(join(directory, `fill-${size}-${i}`), new Uint8Array(size));
      } catch {
        rmSync(join(directory, `fill-${size}-${i}`), { force: true });
        break;
      }
}

const free = (): void => execFileSync("sh", ["-c", `rm -f ${directory}/fill-*`]) as unknown as void;

const kilobyte = new Uint8Array(1024).fill(1);

describe("a disk that is full", () => {
  test("a running agent's writes are refused in words, nothing of before is lost, and it goes on with room", () => {
    const before = open();
    for (let i = 0; i < 50; i++) before.put(`before/${i}`, kilobyte);
    fill();
    let refused = 0;
    for (let i = 0; i < 200; i++)
      try {
        before.put(`during/${i}`, kilobyte);
      } catch (error) {
        refused++;
        expect(error).toMatchObject({
          code: "STORE",
          message: expect.stringMatching(/takes no writes: .*full/),
          next: expect.stringMatching(/free space/),
        });
      }
    expect(refused).toBeGreaterThan(0);
    before.owePut("owed", kilobyte);
    expect(before.list("before/", Bytes)).toHaveLength(50);
    expect(before.list("during/", Bytes)).toHaveLength(200 - refused);
    free();
    before.put("after", kilobyte);
    expect(before.status()).toMatchObject({ owed: 0, failure: undefined, losses: [] });
    before.close();
    const again = open();
    expect(again.status().losses).toEqual([]);
    expect(again.keys("").length).toBe(50 + (200 - refused) + 2);
  });

  test("an agent starts on it, knows what was there, and writes when there is room", () => {
    const before = open();
    for (let i = 0; i < 50; i++) before.put(`before/${i}`, kilobyte);
    before.close();
    fill();
    const during = open();
    expect(during.list("before/", Bytes)).toHaveLength(50);
    expect(during.status().losses).toEqual([]);
    expect(() => during.put("during", kilobyte)).toThrow(/free space|full|cannot be opened/);
    during.owePut("owed", kilobyte);
    expect(during.get("owed", Bytes)).toEqual(kilobyte);
    free();
    during.put("after", kilobyte);
    during.close();
    expect(open().keys("").length).toBe(52);
  });
});

describe("a disk that is mounted read-only", () => {
  test("an agent starts, knows what was there, refuses what is new, and writes when it is writable", () => {
    const before = open();
    before.put("before", kilobyte);
    before.close();
    mount("-o", "remount,ro");
    const during = open();
    expect(during.get("before", Bytes)).toEqual(kilobyte);
    expect(() => during.put("during", kilobyte)).toThrow(
      expect.objectContaining({ code: "STORE", next: expect.stringMatching(/mount it writable/) }),
    );
    during.oweDelete("before");
    expect(during.status()).toMatchObject({ owed: 1, failure: { code: "STORE" } });
    mount("-o", "remount,rw");
    during.put("after", kilobyte);
    during.close();
    expect(open().keys("")).toEqual(["after"]);
  });

  test("what was written last before a kill is read too", () => {
    const killed = open();
    killed.put("last", kilobyte);
    // Its log lies beside the database, as a killed process leaves it.
    execFileSync("sh", ["-c", `cp -a ${path} ${path}-wal ${root}/`]);
    killed.close();
    execFileSync("sh", ["-c", `mv ${root}/agent.db ${root}/agent.db-wal ${directory}/`]);
    mount("-o", "remount,ro");
    expect(open().get("last", Bytes)).toEqual(kilobyte);
    mount("-o", "remount,rw");
  });

  test("a damaged database there: in memory, told, and moved aside when it is writable", () => {
    writeFileSync(path, "x".repeat(8192));
    mount("-o", "remount,ro");
    const during = open();
    expect(during.keys("")).toEqual([]);
    during.owePut("a", kilobyte);
    expect(during.status()).toMatchObject({ owed: 1, losses: [{ what: path }] });
    mount("-o", "remount,rw");
    during.put("b", kilobyte);
    during.close();
    expect(open().keys("")).toEqual(["a", "b"]);
  });
});

describe("an agent whose files are damaged", () => {
  const start = resolve(import.meta.dirname, "../../agent/cli/start.ts");
  let agent: ChildProcess;
  const run = (): string => join(directory, "run");
  const data = (): string => join(directory, "data");

  async function begun(): Promise<void> {
    agent = spawn(
      process.execPath,
      ["--disable-warning=ExperimentalWarning", start, "agent", "--no-docker"],
      {
        stdio: ["ignore", "ignore", "inherit"],
        env: { ...process.env, OVERLAY_TS_DATA_DIR: data(), OVERLAY_TS_RUN_DIR: run() },
      },
    );
    await expect.poll(() => problem().catch(() => "not yet"), { timeout: 60_000 }).toMatch(/\//);
  }

  const problem = async (): Promise<string | undefined> =>
    (await callUnix<NotRunning>(join(run(), "agent.sock"), "GET", "/v1/status")).problem?.message;

  afterEach(async () => {
    if (agent.exitCode !== null) return;
    const ended = new Promise((ended) => agent.once("exit", ended));
    agent.kill();
    await ended;
  });

  async function member(): Promise<ReturnType<typeof agentFiles>> {
    const files = agentFiles(data());
    mkdirSync(files.directory, { recursive: true });
    writeFileSync(files.membership, (await recordings()).membership["file"]!);
    ensureIdentity(files);
    return files;
  }

  test.each<[string, RegExp, (files: ReturnType<typeof agentFiles>) => void]>([
    [
      "its membership is",
      /membership.json is damaged/,
      (files) => writeFileSync(files.membership, "{"),
    ],
    ["its key is", /identity.key cannot be read/, (files) => writeFileSync(files.identity, "%%%")],
    ["its key is gone", /identity.key cannot be read/, (files) => rmSync(files.identity)],
    ["its key is another's", /is not the key that this host joined with/, () => {}],
  ])("%s: it runs on and says so, and `leave` is a way out", async (_, words, damage) => {
    damage(await member());
    await begun();
    expect(await problem()).toMatch(words);
    expect(agent.exitCode).toBeNull();
    await callUnix(join(run(), "agent.sock"), "POST", "/v1/leave");
    await expect.poll(problem, { timeout: 20_000 }).toBeUndefined();
  });
});
