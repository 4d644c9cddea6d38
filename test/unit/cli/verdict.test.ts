import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { paint } from "../../../agent/cli/output.ts";
import { status, type StatusOptions } from "../../../agent/cli/status-command.ts";
import { verdictText, wrongs } from "../../../agent/cli/verdict.ts";
import type { Status } from "../../../agent/api/status.ts";
import { bare } from "../../../shared/node/routes.ts";
import { overlayTs } from "../../support/command-line.ts";
import { UnixHttpServer } from "../../../shared/node/unix-http.ts";

/** The first line of `status`, and its exit status. */

const failure = { code: "KERNEL", message: "it does not", next: "do it" };
const network = {
  id: "n1",
  name: "app",
  endpoints: 1,
  remotes: 1,
  inSync: true,
  alone: false,
  ignored: [],
};
const proof = { node: "h2", name: "h2", roundTripMs: 0.2, bytes: 1500, address: "198.51.100.2" };
const well = {
  joined: true,
  name: "h1",
  cluster: "c",
  revision: 3,
  controller: { address: "", port: 7952 },
  peers: [{ node: "h2", name: "h2", connected: true, dialled: true }],
  dataPath: [proof],
  otherVersions: [],
  networks: [network],
  tooLarge: [],
  encryption: {},
  guards: { dropped: { stranger: 5 } },
  disk: { owed: 0, losses: [] },
  problems: [],
} as unknown as Status;
const saying = (changes: object): Status => ({ ...well, ...changes });

test("a host with nothing wrong is well, whatever it has refused", () => {
  expect(wrongs(well, undefined)).toEqual([]);
  expect(verdictText(well, [])).toBe("well: 1 other host, 1 network here");
});

test.each<[string, object]>([
  ["the disk: new containers are refused", { disk: { owed: 1, losses: [], failure } }],
  ["this host was removed from the cluster", { removed: failure }],
  ["docker", { problems: [{ what: "docker", network: undefined, ...failure }] }],
  ["keys of app", { problems: [{ what: "keys", network: "n1", ...failure }] }],
  [
    "no mesh connection with h2",
    { peers: [{ node: "h2", name: "h2", connected: false, dialled: true }] },
  ],
  ["no data path to h2", { dataPath: [{ ...proof, roundTripMs: undefined }] }],
  [
    "small packets alone reach h2",
    { dataPath: [{ ...proof, roundTripMs: undefined, smallRoundTripMs: 1 }] },
  ],
  ["the kernel does not take app", { networks: [{ ...network, pass: { failure } }] }],
  ["not in sync on app", { networks: [{ ...network, inSync: false }] }],
  ["metrics", { metrics: { failure } }],
  ["no path by ipsec to h2", { encryption: { ipsec: { peers: [{ name: "h2", path: false }] } } }],
])("%s", (said, changes) => {
  expect(wrongs(saying(changes), undefined)).toEqual([said]);
});

test("the most important is first, and many are counted", () => {
  const much = saying({
    networks: [{ ...network, inSync: false }],
    dataPath: [{ ...proof, roundTripMs: undefined }],
    disk: { owed: 1, losses: [], failure },
  });
  const wrong = wrongs(much, { code: "UNREACHABLE", message: "away" });
  expect(wrong.at(-1)).toBe("the controller");
  expect(verdictText(much, wrong)).toBe(
    "not well: the disk: new containers are refused; no data path to h2; not in sync on app and 1 more",
  );
});

test("a peer of a large cluster with which no connection is kept, and a network of one host, are well", () => {
  const peers = [{ node: "h2", name: "h2", connected: false, dialled: false }];
  const networks = [{ ...network, inSync: false, alone: true }];
  expect(wrongs(saying({ peers, networks }), undefined)).toEqual([]);
});

const directory = mkdtempSync(join(tmpdir(), "ovt-verdict-"));
const context = { dataDirectory: directory, runDirectory: directory };
let told: object = well;
const agent = new UnixHttpServer(join(directory, "agent.sock"), {
  "GET /v1/status": bare(() => Promise.resolve(told)),
});
beforeAll(() => agent.start());
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});
afterAll(async () => {
  await agent.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function typed(options: StatusOptions): Promise<{ exit: number; lines: string[] }> {
  const written: string[] = [];
  const stdout = vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    written.push(String(text));
    return true;
  });
  const exit = await status(context, options);
  stdout.mockRestore();
  return { exit, lines: written.join("").trimEnd().split("\n") };
}

test("the exit status follows, and --check says the verdict alone", async () => {
  told = well;
  expect(await typed({ check: true })).toEqual({
    exit: 0,
    lines: ["well: 1 other host, 1 network here"],
  });
  told = saying({ dataPath: [{ ...proof, roundTripMs: undefined }] });
  const ill = await typed({});
  expect(ill).toMatchObject({ exit: 1, lines: { 0: "not well: no data path to h2" } });
  expect(ill.lines.length).toBeGreaterThan(1);
  told = { joined: false };
  expect(await typed({})).toMatchObject({ exit: 3 });
  told = { joined: false, state: "starting" };
  expect(await typed({})).toMatchObject({ exit: 1 });
});

test("what the kernel does not take is said once", async () => {
  told = saying({
    networks: [{ ...network, pass: { failure } }],
    problems: [{ what: "kernel", network: "n1", ...failure }],
  });
  const { lines } = await typed({});
  expect(lines.filter((line) => line.includes(failure.message))).toHaveLength(1);
});

test("a controller that does not run is said, before the agent has a question for it", async () => {
  const listener = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const { port } = listener.address() as AddressInfo;
  told = saying({ controller: { address: "127.0.0.1", port } });
  expect(await typed({ check: true })).toMatchObject({ exit: 0 });
  await new Promise((resolve) => listener.close(resolve));
  const { exit, lines } = await typed({});
  expect([exit, lines[0]]).toEqual([1, "not well: the controller"]);
  expect(lines.slice(-2).join("\n")).toMatch(
    /^controller: the controller at 127\.0\.0\.1:\d+\/tcp does not run.*\n {2}→ `systemctl start/,
  );
});

test("--watch says it again, and what is new", async () => {
  told = well;
  const { child, ended } = overlayTs(directory, ["status", "--check", "--watch"]);
  const lines: string[] = [];
  child.stdout?.on("data", (text: string) => {
    lines.push(...text.trim().split("\n"));
    if (told !== well) child.kill();
    told = { joined: false };
  });
  await ended;
  expect(lines.slice(0, 2)).toEqual([
    "well: 1 other host, 1 network here",
    "not joined: see `overlay-ts init` and `join`",
  ]);
});

test("colour is for a terminal, and not for who says NO_COLOR", () => {
  const before = process.stdout.isTTY;
  try {
    vi.stubEnv("NO_COLOR", "");
    process.stdout.isTTY = true;
    expect(paint("well", "green")).toBe("\u001b[32mwell\u001b[0m");
    vi.stubEnv("NO_COLOR", "1");
    expect(paint("well", "green")).toBe("well");
    vi.stubEnv("NO_COLOR", "");
    process.stdout.isTTY = false;
    expect(paint("well", "green")).toBe("well");
  } finally {
    process.stdout.isTTY = before;
  }
});
