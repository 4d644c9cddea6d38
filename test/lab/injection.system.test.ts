// @module-tag never

import { randomBytes } from "node:crypto";
import { chmodSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { execFile } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DEFAULT_PORTS } from "../../shared/cluster-state.ts";
import type { Ip } from "../../shared/ip.ts";
import type { Mac } from "../../shared/mac.ts";
import { Capture, containing } from "../support/capture.ts";
import { ENGINE_KINDS } from "../support/engine-root.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { past, turn } from "../support/turned-host.ts";
import { type FrameEnd, vxlanDatagram } from "../support/vxlan-datagram.ts";
import { WITHOUT_RIGHTS } from "../support/without-rights.ts";
import { whileFrozen } from "./agent-process.ts";
import { netnsOf, OURS, pings, start } from "./containers.ts";
import { Lab, switchOf } from "./lab.ts";

/**
 * Frames that are forged, and in clear, for containers of each engine: on an encrypted network whoever sends
 * them, on a plain one whoever may not. What a container gets is looked at in its own namespace.
 */

const run = promisify(execFile);
const directory = mkdtempSync(join(tmpdir(), "overlay-ts-injection-test-"));
const { vxlanPlain, vxlanWireguard, vxlanIpsec } = DEFAULT_PORTS;
const PORTS = [vxlanPlain, vxlanWireguard, vxlanIpsec];
let lab: Lab;

beforeAll(async () => {
  // Whoever it is reads what is to be sent.
  chmodSync(directory, 0o755);
  lab = await Lab.up({ directory, hosts: 3, docker: true, engines: ENGINE_KINDS, say: () => {} });
  await lab.form(() => {}, 4, "--encryption", "wireguard");
  const [h1] = lab.hosts as [LabHost];
  const singles = lab.hosts.map(({ name }) => `single-${name}`);
  await h1.docker(...OURS, "-o", "encryption=none", "plain");
  await h1.docker(...OURS, "secret");
  for (const network of singles) await h1.docker(...OURS, "-o", "encrypted", network);
  for (const host of lab.hosts) {
    turn(host.netns, PORTS);
    for (const network of ["plain", "secret", `single-${host.name}`]) {
      await host.waitForNetwork(network);
      await start(host, `on-${network}`, network);
    }
  }
});

afterAll(() => Lab.down(directory));

/** A container that is aimed at. */
interface Aim {
  readonly netns: string;
  /** Of its host. */
  readonly address: string;
  readonly vni: number;
  readonly here: FrameEnd;
  /** Of whom the frame says that it is from. */
  readonly there: FrameEnd;
}

/** The container of `host` on this network, as from that of `other`, of which `host` may hear a moment after it runs. */
async function aimAt(
  host: LabHost,
  network: string,
  other: LabHost,
  isOnBoth: boolean,
): Promise<Aim> {
  const { vni } = JSON.parse(await host.overlay("network", "inspect", network)) as { vni: number };
  const rows = await eventually(20_000, `who is on ${network}`, async () => {
    const said = await host.ask<{ host: string; ips: Ip[]; mac: Mac }[]>(
      `endpoints?network=${network}`,
    );
    const on = said.map((row) => row.host);
    expect([on.includes(host.name), on.includes(other.name)]).toEqual([true, isOnBoth]);
    return said;
  });
  const end = (of: LabHost): FrameEnd | undefined => {
    const row = rows.find((each) => each.host === of.name);
    return row && { mac: row.mac, ip: row.ips[0]! };
  };
  const here = end(host);
  if (here === undefined) throw new Error(`${host.name} has no container on ${network}`);
  // A network with one container: as from a second one.
  const second = { mac: "02:42:0a:00:00:99" as Mac, ip: here.ip.replace(/\d+$/, "99") as Ip };
  const netns = await netnsOf(host, `on-${network}`);
  const address = `198.51.100.${host.name.slice(1)}`;
  return { netns, address, vni, here, there: end(other) ?? second };
}

async function dropped(host: LabHost): Promise<number> {
  const { guards, encryption } = await host.status();
  const counts = [guards.dropped, encryption.wireguard?.dropped ?? {}];
  return counts.flatMap((each) => Object.values(each)).reduce((sum, n) => sum + n, 0);
}

interface Sender {
  readonly netns: string;
  readonly ports: readonly number[];
  /** As whom it is sent; root of the namespace without it. */
  readonly as?: readonly string[];
  readonly to?: string;
}

/** How many of the forged frames, one to each of the ports, the container got. */
async function got(
  { netns: container, address, vni, here, there }: Aim,
  { netns, ports, as = [], to = address }: Sender,
): Promise<number> {
  const marker = Buffer.from(randomBytes(16).toString("hex"));
  const file = join(directory, "datagram");
  writeFileSync(file, vxlanDatagram(vni, there, here, marker));
  return arrived(container, marker, async () => {
    for (const port of ports) {
      const socat = ["socat", "-u", `OPEN:${file}`, `UDP-SENDTO:${to}:${port}`];
      await run("nsenter", [`--net=${netns}`, ...as, ...socat]).catch(() => {});
    }
  });
}

/**
 * How many frames with the marker passed a container's link while `work` was done. The container then sends a frame of
 * its own: what the capture had before it is in it.
 */
async function arrived(
  container: string,
  marker: Buffer,
  work: () => Promise<unknown>,
): Promise<number> {
  const last = Buffer.from(randomBytes(16).toString("hex"));
  const file = join(directory, "last");
  const nobody = Buffer.from("02000000000102000000000288b5", "hex");
  writeFileSync(file, Buffer.concat([nobody, last, Buffer.alloc(32)]));
  const capture = await Capture.start(container, "eth0", join(directory, "got.pcap"));
  try {
    await work();
    // What is on its way.
    await delay(500);
    const send = ["socat", "-u", `OPEN:${file}`, "INTERFACE:eth0"];
    await eventually(60_000, "the end of the capture", async () => {
      await run("nsenter", [`--net=${container}`, ...send]);
      expect(containing(capture.frames(), last)).toBeGreaterThan(0);
    });
  } finally {
    await capture.stop();
  }
  return containing(capture.frames(), marker);
}

test("networks are of the kind that the cluster was made with, unless they say another", async () => {
  const networks = await lab.hosts[1]!.ask<{ name: string; encryption: string }[]>("networks");
  expect(new Map(networks.map(({ name, encryption }) => [name, encryption]))).toEqual(
    new Map([
      ["plain", "none"],
      ["secret", "wireguard"],
      ...lab.hosts.map(({ name }) => [`single-${name}`, "wireguard"] as const),
    ]),
  );
});

describe.each(ENGINE_KINDS)("to a container of Docker %s", (kind) => {
  let host: LabHost;
  let other: LabHost;
  /** A member whose root is hostile. */
  let member: Sender;
  let aims: Readonly<Record<"plain" | "secret" | "single", Aim>>;

  beforeAll(async () => {
    host = lab.hosts[ENGINE_KINDS.indexOf(kind)]!;
    other = lab.hosts[(ENGINE_KINDS.indexOf(kind) + 1) % lab.hosts.length]!;
    member = { netns: other.netns, ports: PORTS.map(past) };
    aims = {
      plain: await aimAt(host, "plain", other, true),
      secret: await aimAt(host, "secret", other, true),
      single: await aimAt(host, `single-${host.name}`, other, false),
    };
  });

  const droppedAs = async (why: string): Promise<number> =>
    (await other.status()).guards.dropped[why] ?? 0;

  test("control: a member's frame for a container that it has is got, on a plain network", async () => {
    await eventually(20_000, "the member's frame", async () =>
      expect(await got(aims.plain, { ...member, ports: [past(vxlanPlain)] })).toBe(1),
    );
  });

  describe.each(["plain", "secret", "single"] as const)("on the network %s", (network) => {
    test("a stranger's does not come, and is counted", async () => {
      const before = await dropped(host);
      expect(await got(aims[network], { netns: switchOf(lab), ports: PORTS })).toBe(0);
      expect(await dropped(host)).toBeGreaterThan(before);
    });

    test("nor what a container sends out through its host, which a member's address masks", async () => {
      const before = await dropped(host);
      const netns = await netnsOf(other, "on-plain");
      const forwarded = await droppedAs("forwarded");
      expect(await got(aims[network], { netns, ports: PORTS })).toBe(0);
      // The sending host drops them: none of them is to be seen here.
      expect(await dropped(host)).toBe(before);
      expect(await droppedAs("forwarded")).toBeGreaterThanOrEqual(forwarded + PORTS.length);
    });

    test.each(WITHOUT_RIGHTS)(
      "nor what a process %s sends on a member's host, which drops it",
      async (_, as) => {
        const before = await dropped(host);
        const own = await droppedAs("ownProcess");
        const sender = { netns: other.netns, ports: PORTS, as };
        expect(await got(aims[network], sender)).toBe(0);
        expect(await dropped(host)).toBe(before);
        expect(await droppedAs("ownProcess")).toBe(own + PORTS.length);
      },
    );
  });

  test("control: without the guards there, what those processes send comes, on a plain network", async () => {
    await whileFrozen(other, async () => {
      await other.exec("nft", "delete", "table", "inet", "overlay_ts");
      for (const [, as] of WITHOUT_RIGHTS)
        expect(await got(aims.plain, { netns: other.netns, ports: [vxlanPlain], as })).toBe(1);
    });
    await eventually(30_000, "the guards", () =>
      other.exec("nft", "list", "table", "inet", "overlay_ts"),
    );
  });

  test("CVE-2023-28840: an encrypted network gets nothing in clear, also from a member that is on it", async () => {
    const before = await dropped(host);
    expect(await got(aims.secret, member)).toBe(0);
    expect(await dropped(host)).toBeGreaterThan(before);
  });

  test("CVE-2023-28842: nor does one with a single container, from a member that is not on it", async () => {
    const before = await dropped(host);
    expect(await got(aims.single, member)).toBe(0);
    expect(await dropped(host)).toBeGreaterThan(before);
  });

  test("from inside the tunnel a member speaks for its own containers only", async () => {
    const netns = other.path("/run/overlay-ts/netns/wireguard");
    turn(netns, [vxlanWireguard]);
    const to = (await host.status()).encryption.wireguard!.inside!;
    const inside = { netns, ports: [past(vxlanWireguard)], to };
    const { secret, single } = aims;
    await eventually(30_000, "the tunnel", async () =>
      expect(await pings(other, "on-secret", secret.here.ip)).toBe(3),
    );
    await eventually(20_000, "the member's own frame", async () =>
      expect(await got(secret, inside)).toBe(1),
    );
    const before = await dropped(host);
    for (const lie of [
      { ip: secret.there.ip.replace(/\d+$/, "77") as Ip },
      { mac: "02:42:0a:00:00:77" as Mac },
    ])
      expect(await got({ ...secret, there: { ...secret.there, ...lie } }, inside)).toBe(0);
    // A network that it is not on.
    expect(await got({ ...secret, vni: single.vni }, inside)).toBe(0);
    expect(await dropped(host)).toBeGreaterThanOrEqual(before + 3);
  });
});
