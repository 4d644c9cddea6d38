import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { type Joined, joinCluster } from "../../../agent/membership/join.ts";
import { machineIdFor } from "../../../agent/membership/machine-id.ts";
import {
  type AgentFiles,
  agentFiles,
  ensureIdentity,
  forgetMembership,
  forgetUnusedKey,
  joiningIdentity,
  readIdentity,
  readMembership,
} from "../../../agent/membership/membership-files.ts";
import { Controller } from "../../../controller/controller.ts";
import { newCluster } from "../../../controller/core/record.ts";
import { MemoryStore } from "../../fakes/memory-controller-store.ts";
import type { ControlChannel } from "../../../controller/wire/channel.ts";
import { ClusterId, type NodeId } from "../../../shared/ids.ts";
import { Ip } from "../../../shared/ip.ts";
import { identityFromSeed } from "../../../shared/node/identity.ts";
import { sha256, systemClock } from "../../../shared/node/system.ts";
import { silentLog } from "../../../shared/ports.ts";
import { signCertificate } from "../../../shared/trust.ts";
import { nodeId } from "../../support/cluster.ts";
import { crashingFiles } from "../../support/file-crashes.ts";
import { MemoryControl } from "../../support/memory-control.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { storeRecord } from "../../support/stored-record.ts";

const directory = mkdtempSync(join(tmpdir(), "ovt-joining-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const [root, peer] = [1, 2].map((k) => identityFromSeed(new Uint8Array(32).fill(k))) as [
  ReturnType<typeof identityFromSeed>,
  ReturnType<typeof identityFromSeed>,
];
const address = Ip.parse("198.51.100.1");
let controller: Controller;
let token: string;
let files: AgentFiles;
let hosts = 0;

beforeEach(async () => {
  const store = new MemoryStore();
  const empty = newCluster(
    { controllerPeer: peer.node, controllerNode: nodeId(1), address },
    { wallMs: 0, random: seededRandom(1) },
  );
  await storeRecord(store, empty);
  const certificate = await signCertificate(root, {
    cluster: empty.state.cluster,
    controller: peer.node,
  });
  controller = new Controller(
    { controller: peer, certificate, rootKey: root.publicKey },
    { store, clock: systemClock, random: seededRandom(2), hasher: sha256, log: silentLog },
  );
  token = (await controller.createToken({ ttlMs: 60_000, uses: 1 })).token;
  files = agentFiles(join(directory, String(++hosts)));
});

/** Where the line ends: before the controller, after it has decided, or not at all. */
type Line = "whole" | "not there" | "answer lost";

const lineOf =
  (line: Line) =>
  (seed: Uint8Array): ControlChannel => {
    const inner = new MemoryControl(identityFromSeed(seed).node, controller, peer.node);
    return {
      exchange: async (to, request) => {
        if (line === "not there") throw new Error("connection refused");
        const answer = await inner.exchange(to, request);
        if (line === "answer lost") throw new Error("connection reset");
        return answer;
      },
      watch: (to, heard, signal) => inner.watch(to, heard, signal),
      close: () => inner.close(),
    };
  };

const joining = (line: Line, more: { token?: string; name?: string } = {}): Promise<Joined> =>
  joinCluster(
    files,
    { token, controller: { address }, name: "h2", advertise: Ip.parse("198.51.100.2"), ...more },
    lineOf(line),
  );

const members = async (): Promise<NodeId[]> => (await controller.state()).nodes.map(({ id }) => id);

/** What of a key is on disk. */
const keys = () => ({ joining: existsSync(files.joiningKey), own: existsSync(files.identity) });

test("admitted: the key that was made for it is this host's, and it is a member", async () => {
  const { membership } = await joining("whole");
  expect(keys()).toEqual({ joining: false, own: true });
  expect(statSync(files.identity).mode & 0o777).toBe(0o600);
  expect(await members()).toEqual([readIdentity(files).node]);
  expect(readMembership(files)).toEqual(membership);
});

test("refused: nothing is left that an image of this machine could carry", async () => {
  await expect(joining("whole", { token: `${token.slice(0, -2)}AA` })).rejects.toThrow(/token/);
  await expect(joining("whole", { name: "-" })).rejects.toThrow();
  expect(keys()).toEqual({ joining: false, own: false });
  expect(await members()).toEqual([]);
});

test("a controller that takes the connection and is slow is asked again, with the same key, and admits once", async () => {
  const busy = createServer((socket) => socket.on("error", () => {})).listen(0, "127.0.0.1");
  await once(busy, "listening");
  const { port } = busy.address() as { port: number };
  let asked = 0;
  const slow: string[] = [];
  try {
    const { membership } = await joinCluster(
      files,
      {
        token,
        controller: { address: Ip.parse("127.0.0.1"), port },
        name: "h2",
        advertise: Ip.parse("198.51.100.2"),
        slow: ({ message }) => slow.push(message),
      },
      (seed) => ({
        ...lineOf("whole")(seed),
        exchange: async (to, request, timeoutMs) => {
          const answer = await lineOf("whole")(seed).exchange(to, request, timeoutMs);
          // It has decided, and its answer comes too late.
          if (++asked < 3) throw new DOMException("too late", "TimeoutError");
          return answer;
        },
      }),
    );
    expect(membership.cluster).toBe((await controller.state()).cluster);
  } finally {
    busy.close();
  }
  expect(slow).toEqual(
    [1, 2].map(() => expect.stringMatching(/takes connections, and has not answered/)),
  );
  expect(await members()).toEqual([readIdentity(files).node]);
});

test.each<Line>(["not there", "answer lost"])(
  "%s: the key waits beside, and the next try is the same host to the controller",
  async (line) => {
    await expect(joining(line)).rejects.toMatchObject({ code: "UNREACHABLE" });
    expect(keys()).toEqual({ joining: true, own: false });
    expect(statSync(files.joiningKey).mode & 0o777).toBe(0o600);
    const { node } = joiningIdentity(files).identity;
    // The token says nothing about the key, which may be a member's by now.
    const wrong = `${token.slice(0, -2)}AA`;
    await expect(joining("whole", { token: wrong })).rejects.toMatchObject({
      code: "UNAUTHENTICATED",
    });
    await joining("whole");
    expect(readIdentity(files).node).toBe(node);
    expect(await members()).toEqual([node]);
  },
);

test("another cluster's controller than the token's admits nobody", async () => {
  const other = token.replace(/^ovt1\.\w{32}/, `ovt1.${"0".repeat(32)}`);
  await expect(joining("whole", { token: other })).rejects.toThrow(/not the controller of cluster/);
  expect(keys()).toEqual({ joining: false, own: false });
  expect(await members()).toEqual([]);
});

test("admitted, and not sure by whom, it is no member, and the same host whatever it tries next", async () => {
  const { token: second } = await controller.createToken({ ttlMs: 60_000, uses: 1 });
  const other = { token: second, controller: { address }, name: "h3" };
  const otherFiles = agentFiles(join(directory, String(++hosts)));
  await joinCluster(otherFiles, { ...other, advertise: Ip.parse("198.51.100.3") }, lineOf("whole"));
  const parts = token.split(".");
  parts[2] = "A".repeat(43);
  const forged = parts.join(".");
  await expect(joining("whole", { token: forged })).rejects.toThrow(/of another cluster than/);
  const admitted = await members();
  expect(admitted).toHaveLength(2);
  await expect(joining("whole", { name: "h3" })).rejects.toMatchObject({ code: "CONFLICT" });
  expect(keys()).toEqual({ joining: true, own: false });
  await joining("whole");
  expect(await members()).toEqual(admitted);
  expect(admitted).toContain(readIdentity(files).node);
});

test("a key that was shown before and whose host was removed meanwhile is given up", async () => {
  await expect(joining("answer lost")).rejects.toThrow();
  await controller.removeNode("h2");
  await expect(joining("whole")).rejects.toMatchObject({ code: "FORBIDDEN" });
  expect(keys()).toEqual({ joining: false, own: false });
});

test("a host that has a key already, as a controller's has, joins with that", async () => {
  const { node } = ensureIdentity(files);
  await expect(joining("whole", { token: `${token.slice(0, -2)}AA` })).rejects.toThrow();
  expect(keys()).toEqual({ joining: false, own: true });
  await joining("whole");
  expect(await members()).toEqual([node]);
});

describe("a process that ends while it joins", () => {
  test("is the same host when it joins again, whenever that was; and a member has its key", async () => {
    const begin = async (): Promise<void> => {
      forgetMembership(files);
      for (const { name } of (await controller.state()).nodes) await controller.removeNode(name);
      token = (await controller.createToken({ ttlMs: 60_000, uses: 1 })).token;
    };
    const steps = await crashingFiles(Infinity, () => joining("whole"));
    expect(steps).toBeGreaterThan(10);
    for (let at = 0; at < steps; at++) {
      await begin();
      await crashingFiles(at, () => joining("whole"));
      const admitted = await members();
      if (readMembership(files) === undefined) await joining("whole");
      // One host, whose token was used once.
      expect(await members()).toEqual(admitted.length === 0 ? [expect.any(String)] : admitted);
      expect([readIdentity(files).node]).toEqual(await members());
      expect(keys().own).toBe(true);
    }
  });
});

test("leaving takes both keys; a host that is no member can forget a key alone", async () => {
  await expect(joining("not there")).rejects.toThrow();
  expect(forgetUnusedKey(files)).toBe(true);
  expect(keys()).toEqual({ joining: false, own: false });
  expect(forgetUnusedKey(files)).toBe(false);
  ensureIdentity(files);
  expect(forgetUnusedKey(files)).toBe(true);
  await joining("whole");
  expect(forgetUnusedKey(files)).toBe(false);
  writeFileSync(files.joiningKey, readFileSync(files.identity));
  forgetMembership(files);
  expect(keys()).toEqual({ joining: false, own: false });
});

test("a machine's id is told to a cluster in a form that says nothing to another, and a copy's is another", () => {
  mkdirSync(directory, { recursive: true });
  const paths = {
    machineId: join(directory, "machine-id"),
    productUuid: join(directory, "product_uuid"),
  };
  const clusters = ["a", "b"].map((digit) => ClusterId.parse(digit.repeat(32)));
  const ids = () => clusters.map((cluster) => machineIdFor(cluster, paths));
  writeFileSync(paths.productUuid, "4C4C4544-0051-3510-8052-B7C04F515231\n");
  expect(ids()).toEqual([undefined, undefined]);
  // As systemd writes it, and as an image has it before its first start.
  for (const text of ["", "uninitialized\n"]) {
    writeFileSync(paths.machineId, text);
    expect(ids()).toEqual([undefined, undefined]);
  }
  const own = "0123456789abcdef".repeat(2);
  writeFileSync(paths.machineId, `${own}\n`);
  const [a, b] = ids();
  expect(a).toMatch(/^[0-9a-f]{32}$/);
  expect(new Set([a, b, own]).size).toBe(3);
  expect(ids()).toEqual([a, b]);
  // As a hypervisor does with a machine's copy, whose disk is the same.
  writeFileSync(paths.productUuid, "4c4c4544-0051-3510-8052-b7c04f515232\n");
  expect(ids()[0]).not.toBe(a);
  rmSync(paths.productUuid);
  expect(ids()[0]).toMatch(/^[0-9a-f]{32}$/);
});
