import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { type Backup, formatBackup, parseBackup } from "../../../controller/backup.ts";
import { admitNode } from "../../../controller/core/admission.ts";
import { newCluster } from "../../../controller/core/record.ts";
import { storeRecord } from "../../support/stored-record.ts";
import {
  type ControllerFiles,
  controllerFiles,
  hasCluster,
  readKeys,
} from "../../../controller/files.ts";
import { createCluster } from "../../../controller/init.ts";
import { backUp, recover, restore, storedRecord } from "../../../controller/restoring.ts";
import { SqliteStore } from "../../../controller/store/sqlite-store.ts";
import { hex } from "../../../shared/codec.ts";
import { Ip } from "../../../shared/ip.ts";
import { writeNewSecret } from "../../../shared/node/files.ts";
import { identityFromSeed } from "../../../shared/node/identity.ts";
import { signCertificate } from "../../../shared/trust.ts";
import { node, nodeId } from "../../support/cluster.ts";
import { crashingFiles } from "../../support/file-crashes.ts";
import { seededRandom } from "../../support/seeded-random.ts";

const directory = mkdtempSync(join(tmpdir(), "ovt-backup-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

let made = 0;
const newFiles = (): ControllerFiles => controllerFiles(join(directory, String(made++)));
const address = Ip.parse("198.51.100.1");
const here = { node: nodeId(1), address: undefined };

const root = identityFromSeed(new Uint8Array(32).fill(1));
const controller = identityFromSeed(new Uint8Array(32).fill(2));
const empty = newCluster(
  { controllerPeer: controller.node, controllerNode: nodeId(1), address },
  { wallMs: 0, random: seededRandom(1) },
);
const record = admitNode(empty, nodeId(1), node(1), undefined, 0).record;
const { cluster } = record.state;
const backup: Backup = {
  madeAtMs: 5,
  rootPublicKey: root.publicKey,
  controllerSeed: controller.seed,
  certificate: await signCertificate(root, { cluster, controller: controller.node }),
  record,
};
const text = formatBackup(backup);

describe("a backup", () => {
  test("is what was backed up", async () => {
    expect(await parseBackup(text)).toEqual(backup);
  });

  test("has no root key", async () => {
    const files = newFiles();
    await createCluster(files, { controllerNode: nodeId(1), address });
    const rootKey = readFileSync(files.rootKey, "utf8").trim();
    expect(formatBackup(await backUp(files))).not.toContain(rootKey);
  });

  test("is consistent beside a controller that writes", async () => {
    const files = newFiles();
    await restore(files, backup, here);
    const writing = new SqliteStore(files.database);
    const backups: Promise<Backup>[] = [];
    for (let i = 0; i < 20; i++) {
      const state = { ...record.state, revision: 10 + i };
      await storeRecord(writing, { ...record, state, nextVni: 1000 + i });
      backups.push(backUp(files));
    }
    writing.close();
    for (const made of await Promise.all(backups))
      expect(made.record.nextVni - made.record.state.revision).toBe(990);
  });

  test.each<[string, string, RegExp]>([
    ["nothing", "", /no backup of a controller/],
    ["something else", '{"v":1}\n', /no backup of a controller/],
    ["half of one", text.slice(0, text.length / 2), /damaged, or not all/],
    ["its first line", text.split("\n")[0]! + "\n", /damaged, or not all/],
    ["one letter is another", text.replace("198.51.100.1", "198.51.100.2"), /damaged/],
    ["of a later version", text.replace("backup 1 ", "backup 2 "), /format 2.*reads 1/],
  ])("that is %s is refused with the cause", async (_what, bad, why) => {
    const refused = parseBackup(bad);
    await expect(refused).rejects.toMatchObject({ code: "INVALID" });
    await expect(refused).rejects.toThrow(why);
  });

  const other = identityFromSeed(new Uint8Array(32).fill(3));
  const elsewhere = "e".repeat(32) as typeof cluster;
  const resigned = (claim: object) =>
    signCertificate(root, { cluster, controller: controller.node, ...claim });

  test.each<[string, () => Promise<Partial<Backup>>, RegExp]>([
    ["another root key", async () => ({ rootPublicKey: other.publicKey }), /root key did not sign/],
    ["another key", async () => ({ controllerSeed: other.seed }), /certificate is not for/],
    [
      "keys of another cluster",
      async () => ({ certificate: await resigned({ cluster: elsewhere }) }),
      /data of cluster/,
    ],
    [
      "keys of another controller's time",
      async () => ({ certificate: await resigned({ generation: 1 }) }),
      /data of another controller/,
    ],
    [
      "a record of another version",
      async () => ({ record: { ...record, format: 2 } as never }),
      /this version cannot read/,
    ],
  ])("that is whole but has %s is refused", async (_what, change, why) => {
    await expect(parseBackup(formatBackup({ ...backup, ...(await change()) }))).rejects.toThrow(
      why,
    );
  });
});

describe("restored", () => {
  test("it is there, marked, and where it is said to be; only root reads it", async () => {
    const files = newFiles();
    await restore(files, backup, { node: nodeId(4), address: Ip.parse("198.51.100.4") });
    const stored = await storedRecord(files);
    expect(stored.restoredAtMs).toBeGreaterThan(0);
    expect(stored.state).toEqual({
      ...record.state,
      controller: { node: nodeId(4), address: "198.51.100.4", peerId: controller.node },
    });
    expect((await readKeys(files)).peer.node).toBe(controller.node);
    for (const file of readdirSync(files.directory))
      expect(statSync(join(files.directory, file)).mode & 0o077, file).toBe(0);
  });

  test("a file of it that is gone is named, with what to do", async () => {
    const files = newFiles();
    await restore(files, backup, { node: nodeId(4), address: undefined });
    for (const file of [files.key, files.rootPublicKey, files.certificate]) {
      const text = readFileSync(file);
      rmSync(file);
      await expect(readKeys(files)).rejects.toMatchObject({
        code: "STORE",
        message: `the controller's file ${file} cannot be read: it is not there`,
        next: expect.stringContaining("controller restore") as string,
      });
      writeFileSync(file, text);
    }
  });

  test("onto a cluster it is not, and says what to do", async () => {
    const files = newFiles();
    await createCluster(files, { controllerNode: nodeId(1), address });
    const before = await storedRecord(files);
    await expect(restore(files, backup, here)).rejects.toMatchObject({
      code: "CONFLICT",
      next: expect.stringMatching(/recover --from-mesh/) as string,
    });
    expect(await storedRecord(files)).toEqual(before);
  });

  test("an address of a family that the hosts do not talk is refused", async () => {
    const files = newFiles();
    const restored = restore(files, backup, { node: nodeId(1), address: Ip.parse("2001:db8::1") });
    await expect(restored).rejects.toThrow(/not an IPv4 address/);
    expect(hasCluster(files)).toBe(false);
  });

  test("it has met the hosts: the mark is gone, what they hold is there", async () => {
    const files = newFiles();
    await restore(files, backup, here);
    const met = admitNode(record, nodeId(2), node(2), undefined, 0).record.state;
    const { after } = await recover(files, await readKeys(files), met);
    const stored = await storedRecord(files);
    expect(stored.restoredAtMs).toBeUndefined();
    expect(stored.state).toEqual(after);
    expect(after.nodes.map(({ name }) => name)).toEqual(["h1", "h2"]);
  });
});

describe("killed at every step,", () => {
  /** As often as there are steps, each time on a directory of its own. */
  async function everyStep(
    run: (files: ControllerFiles) => Promise<unknown>,
    check: (files: ControllerFiles) => Promise<void>,
  ): Promise<number> {
    const steps = await crashingFiles(Infinity, () => run(newFiles()));
    for (let at = 0; at < steps; at++) {
      const files = newFiles();
      await crashingFiles(at, () => run(files));
      await check(files);
    }
    return steps;
  }

  test("`init` leaves a whole cluster or none, and does it again", async () => {
    const run = (files: ControllerFiles): Promise<void> =>
      createCluster(files, { controllerNode: nodeId(1), address });
    const steps = await everyStep(run, async (files) => {
      if (!hasCluster(files)) await run(files);
      const { rootKey } = await readKeys(files);
      const seed = Buffer.from(readFileSync(files.rootKey, "utf8").trim(), "base64url");
      expect(hex(identityFromSeed(seed).publicKey)).toBe(hex(rootKey));
      expect((await storedRecord(files)).state.revision).toBe(1);
    });
    expect(steps).toBeGreaterThan(20);
  });

  test("`restore` leaves the whole backup or no cluster, and does it again", async () => {
    const run = (files: ControllerFiles): Promise<unknown> => restore(files, backup, here);
    await everyStep(run, async (files) => {
      if (!hasCluster(files)) await run(files);
      expect((await readKeys(files)).certificate).toBe(backup.certificate);
      expect((await storedRecord(files)).restoredAtMs).toBeDefined();
    });
  });

  test("`restore` over what a killed `init` left is the backup's", async () => {
    const init = (files: ControllerFiles): Promise<void> =>
      createCluster(files, { controllerNode: nodeId(1), address });
    await everyStep(init, async (files) => {
      if (hasCluster(files)) return;
      await restore(files, backup, here);
      expect((await readKeys(files)).certificate).toBe(backup.certificate);
      expect((await storedRecord(files)).state.cluster).toBe(cluster);
    });
  });

  test("`recover` has happened or not, and does it again", async () => {
    const met = admitNode(record, nodeId(2), node(2), undefined, 0).record.state;
    const files = newFiles();
    await restore(files, backup, here);
    const keys = await readKeys(files);
    const steps = await crashingFiles(Infinity, () => recover(files, keys, met));
    for (let at = 0; at < steps; at++) {
      const files = newFiles();
      await restore(files, backup, here);
      await crashingFiles(at, () => recover(files, keys, met));
      const { restoredAtMs, state } = await storedRecord(files);
      expect(state.nodes).toHaveLength(restoredAtMs === undefined ? 2 : 1);
      await recover(files, keys, met);
      expect((await storedRecord(files)).state.nodes).toHaveLength(2);
    }
  });

  test("`backup` leaves the whole file or none", async () => {
    const path = (files: ControllerFiles): string => `${dirname(files.directory)}.backup`;
    const run = async (files: ControllerFiles): Promise<void> => writeNewSecret(path(files), text);
    await everyStep(run, async (files) => {
      if (!existsSync(path(files))) await run(files);
      expect(await parseBackup(readFileSync(path(files), "utf8"))).toEqual(backup);
    });
  });
});

test("what is there is not written over", () => {
  const file = join(directory, "there");
  writeNewSecret(file, text);
  expect(() => writeNewSecret(file, "other")).toThrow(/is there already/);
  expect(readFileSync(file, "utf8")).toBe(text);
  expect(readdirSync(directory).filter((name) => name.startsWith("there"))).toEqual(["there"]);
  expect(() => writeNewSecret(join(directory, "none", "file"), text)).toThrow(/cannot be written/);
});

test("a secret is not written into what somebody planted where it could be guessed to pass", () => {
  const [file, victim] = [join(directory, "secret"), join(directory, "victim")];
  writeFileSync(victim, "kept");
  symlinkSync(victim, `${file}.${process.pid}.new`);
  writeNewSecret(file, text);
  expect(readFileSync(victim, "utf8")).toBe("kept");
  expect(readFileSync(file, "utf8")).toBe(text);
});
