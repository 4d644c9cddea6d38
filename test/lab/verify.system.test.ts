import { execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import type { Finding } from "../../agent/api/verify.ts";
import { decodeCbor, encodeCbor } from "../../shared/codec.ts";
import type { NetworkDocument } from "../../shared/documents.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { netnsOf, OURS, pings, reaches, start } from "./containers.ts";
import { Lab, startAgent } from "./lab.ts";

/**
 * `overlay-ts verify` on two hosts with engines, while kernel, Docker, names and tables of h1 are changed in
 * turn: it names what is wrong, ends with 1, and says that all agrees when it does again. What the agent
 * mends at once is seen by what it counts.
 */

// What is left over goes with the round of a minute.
vi.setConfig({ testTimeout: 300_000 });

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-verify-test-"));
let lab: Lab;
let h1: LabHost;
let h2: LabHost;
let network: string;
/** Of the container `there`, on h2; `here` is on h1. */
let there: string;

beforeAll(async () => {
  const engines = ["20.10", "28.5"] as const;
  lab = await Lab.up({ directory, hosts: 2, docker: true, engines, say: () => {} });
  await lab.form(() => {});
  [h1, h2] = lab.hosts as [LabHost, LabHost];
  await h1.docker(...OURS, "app");
  await h2.waitForNetwork("app");
  await start(h1, "here", "app");
  there = await start(h2, "there", "app");
  const all = await h1.ask<{ id: string }[]>("networks");
  network = all[0]!.id;
  await agreement();
});

afterAll(() => Lab.down(directory));

afterEach(async () => {
  await agreement();
  await reaches(h1, "here", there);
});

async function agreement(): Promise<void> {
  for (const host of [h1, h2])
    await eventually(200_000, `agreement on ${host.name}`, () => host.agrees());
}

/**
 * What h1's agent says, with exit status 1; what happens to be on its way is over soon. `change` may be made
 * again: the agent's own round may have come between.
 */
async function finds(
  expected: readonly object[],
  change: () => unknown = () => {},
): Promise<Finding[]> {
  return eventually(30_000, "the findings", async () => {
    await change();
    const findings = await h1.findings();
    expect(findings).toEqual(expected);
    return findings;
  });
}

/** Prints the names of the network's ports. */
const PORTS = "ip -o link | grep -o 'ovp[0-9a-f]*'";

/** In the network's namespace on h1. */
function inside(command: string, of = network): Promise<string> {
  return h1.exec("nsenter", `--net=/run/overlay-ts/netns/${of}`, "sh", "-ec", command);
}

describe("the kernel", () => {
  test.each<[string, string, RegExp]>([
    [
      "an entry too many",
      "bridge fdb replace 02:00:00:00:00:09 dev vx0 dst 198.51.100.7 self extern_learn",
      /^the VXLAN device forwards to 02:00:00:00:00:09 at 198\.51\.100\.7, where no container is$/,
    ],
    [
      "a neighbour too many",
      "ip neighbour replace 10.199.0.9 lladdr 02:00:00:00:00:09 dev br0 nud noarp extern_learn",
      /^the bridge answers for 10\.199\.0\.9, which no container has$/,
    ],
    ["another MTU", "ip link set vx0 mtu 1300", /^its MTU is 1300 and should be 1450$/],
    [
      "the filter of a port",
      "nft flush set bridge overlay_ts ports",
      /^the port of container .* is missing, down, not filtered or not as it was made$/,
    ],
  ])("%s stays until it is looked at, and is named", async (_what, command, text) => {
    const one = { what: "kernel", network, name: "app", text: expect.stringMatching(text) };
    await finds([one], () => inside(command));
    // It goes with the round of a minute, and with whatever else makes the agent look.
    await inside("ip link add other type bridge; ip link del other");
  });

  const lose = "bridge fdb del $(bridge fdb show dev vx0 | awk '/ dst /{ print $1 }') dev vx0 self";
  const nobodys = `ovp${"9".repeat(12)}`;
  const strange = [
    `ip link add ${nobodys} type veth peer ovq9`,
    // A loss is what it is looked at for; it may be gone by now.
    `ip link set ${nobodys} master br0 up || true`,
    "ip link set ovq9 up || true",
    "ip link set ovq9 down || true",
  ];

  test.each<[string, () => string]>([
    ["an entry that is lost", () => lose],
    ["a neighbour that is lost", () => `ip neighbour del ${there} dev br0`],
    ["a bridge that is down", () => "ip link set br0 down"],
    ["a port that is down", () => `ip link set $(${PORTS}) down`],
    ["a port of nobody", () => strange.join("; ")],
  ])("%s is mended before anybody asks", async (_what, command) => {
    const passes = async (): Promise<number> => {
      const { networks } = await h1.status();
      return networks.find(({ id }) => id === network)!.pass!.stepsApplied;
    };
    const before = await passes();
    await inside(command());
    // Right after the agent's own writing nothing is told: then it is the round of a minute.
    await eventually(30_000, "a pass", async () => expect(await passes()).toBeGreaterThan(before));
  });

  test("a container whose port is deleted is named, and has its interface again; Docker can still stop it", async () => {
    await inside(`ip link del $(${PORTS})`);
    await finds([
      {
        what: "kernel",
        network,
        name: "app",
        text: expect.stringMatching(/^the interface of container .* is not in it/),
      },
    ]);
    await eventually(60_000, "an answer", async () => {
      expect(await pings(h1, "here", there)).toBe(3);
    });
    await agreement();
    await h1.docker("restart", "-t", "0", "here");
    await reaches(h1, "here", there);
  });

  test("a namespace that nobody needs is named, and goes", async () => {
    const left = "77".repeat(16);
    const path = `/run/overlay-ts/netns/${left}`;
    const make = `[ -e ${path} ] || { touch ${path}; unshare --net=${path} true; }`;
    await finds([{ what: "leftover", network: left, text: "its namespace is left over" }], () =>
      h1.exec("sh", "-ec", make),
    );
    await eventually(30_000, "the same of the command", async () => {
      await h1.exec("sh", "-ec", make);
      const text = await h1.overlay("verify").catch(({ stdout }: { stdout: string }) => stdout);
      expect(text).toBe(`leftover ${left}: its namespace is left over\n`);
    });
  });

  test("guards that somebody changes are put back, and counted", async () => {
    const before = (await h1.status()).guards.tampered;
    await h1.exec("nft", "flush", "set", "inet", "overlay_ts", "vteps");
    await eventually(30_000, "the guards", async () =>
      expect((await h1.status()).guards.tampered).toBeGreaterThan(before),
    );
  });
});

test("a container's own rules for names are named, and put back with the look", async () => {
  const netns = await netnsOf(h1, "here");
  const lookUp = (): Promise<string> =>
    h1.docker("exec", "here", "/bin/ping", "-c", "1", "-W", "1", "there");
  await eventually(20_000, "its name", async () => expect(await lookUp()).toContain(`(${there})`));
  const without = "add table ip overlay_ts_dns; delete table ip overlay_ts_dns";
  await finds(
    [{ what: "names", text: expect.stringMatching(/^sandbox \w+ asked Docker alone for names/) }],
    () => execFileSync("nsenter", [`--net=${netns}`, "nft", without]),
  );
  expect(await lookUp()).toContain(`(${there})`);
});

describe("Docker", () => {
  test("a container that the tables have lost is named, and back when it is started anew", async () => {
    await start(h1, "lost", "app");
    await h1.stopService("agent", "KILL");
    // All that knows it: our word on disk, and its port.
    onDisk((db) => db.exec(`DELETE FROM entry WHERE key LIKE 'document/${network}/%'`));
    await inside(`for p in $(${PORTS}); do ip link del $p; done`);
    startAgent(h1, true);
    await agentUp();
    const text = /^it has endpoint \w+, which the tables have not: `docker restart \w+`$/;
    const one = { what: "docker", network, name: "app", text: expect.stringMatching(text) };
    const said = await finds([one, one]);
    for (const { text } of said)
      await h1.docker("restart", "-t", "0", /`docker restart (\w+)`/.exec(text)![1]!);
    await h1.docker("rm", "-f", "lost");
  });
});

describe("the tables", () => {
  test.each<[string, (db: DatabaseSync, key: string, before: Uint8Array) => void]>([
    ["lost", (db, key) => db.prepare("DELETE FROM entry WHERE key = ?").run(key)],
    ["garbage", (db, key) => put(db, key, Uint8Array.of(0, 255))],
    ["rolled back", put],
  ])("our own word on disk is %s: it is named, and written again", async (_how, corrupt) => {
    const key = `document/${network}/${(await h1.status()).node}`;
    const before = onDisk((db) => get(db, key));
    await start(h1, "newer", "app");
    await agreement();
    const text = /^what h1 says of its containers was on disk otherwise/;
    // Once more when it is written anew meanwhile: the name of a container is said after its address.
    await finds([{ what: "tables", network, name: "app", text: expect.stringMatching(text) }], () =>
      onDisk((db) => corrupt(db, key, before)),
    );
    await agreement();
    await h1.docker("rm", "-f", "newer");
  });

  test("a peer's word that its owner did not sign is not taken from disk, and asked for anew", async () => {
    const { node } = await h2.status();
    const key = `document/${network}/${node}`;
    await h1.stopService("agent", "KILL");
    onDisk((db) => {
      const held = decodeCbor(get(db, key), 1 << 20) as NetworkDocument;
      put(db, key, encodeCbor({ ...held, version: { incarnation: 9, seq: 9 } }));
    });
    startAgent(h1, true);
    await agentUp();
    expect((await h1.status()).disk.losses).toMatchObject([{ what: key }]);
  });
});

/** h1's database, which gives back something else then. */
function onDisk<T>(work: (db: DatabaseSync) => T): T {
  const db = new DatabaseSync(join(h1.directory, "data/agent/agent.db"));
  try {
    db.exec("PRAGMA busy_timeout=60000");
    return work(db);
  } finally {
    db.close();
  }
}

function get(db: DatabaseSync, key: string): Uint8Array {
  return db.prepare("SELECT value FROM entry WHERE key = ?").get(key)!["value"] as Uint8Array;
}

function put(db: DatabaseSync, key: string, value: Uint8Array): void {
  db.prepare("UPDATE entry SET value = ? WHERE key = ?").run(value, key);
}

async function agentUp(): Promise<void> {
  await eventually(30_000, "the agent of h1", async () =>
    expect(await h1.status()).toMatchObject({ joined: true, docker: { reachable: true } }),
  );
}
