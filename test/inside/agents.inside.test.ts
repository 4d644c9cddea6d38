import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Exposed } from "../../agent/networks/host-endpoint.ts";
import { DEFAULT_PORTS } from "../../shared/cluster-state.ts";
import type { Ip } from "../../shared/ip.ts";
import type { Mac } from "../../shared/mac.ts";
import { Lab, startAgent, switchOf } from "../lab/lab.ts";
import { Capture, captured, containing, isEsp, newMarker, onPort } from "../support/capture.ts";
import { lostDuring } from "../support/hosts.ts";
import { eventually, type LabHost } from "../support/lab-host.ts";
import { past, turn } from "../support/turned-host.ts";
import { type FrameEnd, vxlanDatagram } from "../support/vxlan-datagram.ts";
import { loadModules } from "./modules.ts";
import { NETWORKS, PREPARED_LAB } from "./prepared-lab.ts";

type Network = keyof typeof NETWORKS;
const names = Object.keys(NETWORKS) as Network[];
/** What fills an underlay of 1500 bytes under ESP, less IP and ICMP. */
const FULL_PING_BYTES = 1416 - 28;
/** `eventually` takes three times of it, and then says what was wrong: it must end before the hook does. */
const PATIENCE_MS = 160_000;

/**
 * Two hosts with whole agents, and an address of each on a network in clear and on one under the kernel's
 * ESP. Asked on their sockets: a start of Node takes half a minute here.
 */
describe("whole agents", () => {
  const directory = process.env[PREPARED_LAB] ?? "";
  let lab: Lab;
  let h1: LabHost;
  let h2: LabHost;
  /** Of h2. */
  const addresses = new Map<Network, string>();

  beforeAll(async () => {
    loadModules();
    lab = await Lab.again(directory);
    [h1, h2] = lab.hosts as [LabHost, LabHost];
    for (const host of lab.hosts) startAgent(host, false);
    await standing().catch(async (cause: unknown) => {
      tellLogs();
      // In the message, of which a report shows more than of what was printed.
      throw new Error(`${(cause as Error).message}; ${await said()}`, { cause });
    });
  }, 1_800_000);

  afterAll(() => Lab.end(directory));

  /** The host is on every network, and every network carries. */
  async function standing(): Promise<void> {
    await Promise.all(
      lab.hosts.map(async (host) => {
        for (const name of names) {
          const { ips } = await eventually(PATIENCE_MS, `${name} on ${host.name}`, () =>
            host.ask<Exposed>(`networks/exposed?name=${name}`, "POST"),
          );
          if (host === h2) addresses.set(name, ips[0] ?? "");
        }
      }),
    );
    await whole();
  }

  /** What each host says of the other, and what its mesh has counted. */
  async function said(): Promise<string> {
    const each = lab.hosts.map(async (host) => {
      const { peers, encryption, counters } = await host.status();
      return `${host.name}: ${JSON.stringify({ peers, ipsec: encryption.ipsec, counters })}`;
    });
    return (await Promise.all(each).catch((error: unknown) => [String(error)])).join("; ");
  }

  function tellLogs(): void {
    for (const host of lab.hosts) console.log(host.name, host.log("agent").slice(-10_000));
  }

  // Of the first that fails the agents' logs are shown; the others would fail for its reason.
  let broken = false;
  beforeEach(({ skip }) => skip(broken, "an earlier test failed"));
  afterEach(({ task }) => {
    if (broken || task.result?.state !== "fail") return;
    broken = true;
    tellLogs();
  });

  /** Of three. */
  function ping(name: Network, ...options: string[]): Promise<number> {
    const command = ["ping", "-n", "-c", "3", "-i", "0.2", "-W", "5", ...options];
    return h1.exec(...command, addresses.get(name) ?? "").then(answers, answers);
  }

  function answers(outcome: string | { stdout?: string }): number {
    const said = typeof outcome === "string" ? outcome : (outcome.stdout ?? "");
    return Number(/(\d+) received/.exec(said)?.[1] ?? 0);
  }

  /** Kernel and tables agree, and every network is reached. */
  async function whole(): Promise<void> {
    for (const host of lab.hosts)
      await eventually(PATIENCE_MS, `agreement of ${host.name}`, async () => {
        await host.agrees();
      });
    for (const name of names)
      await eventually(PATIENCE_MS, `answers on ${name}`, async () => {
        expect(await ping(name)).toBe(3);
      });
  }

  /**
   * What crosses the link while `work` sends the marker on the encrypted network: never in clear. What
   * the plain one carries is seen there, so that what is not seen was not there.
   */
  async function nothingInClear(work: (marker: string) => Promise<unknown>): Promise<Buffer[]> {
    const [marker, control] = [newMarker(), newMarker()];
    const frames = await captured(directory, 1, async () => {
      await work(marker.toString("hex"));
      expect(await ping("plain", "-p", control.toString("hex"))).toBe(3);
    });
    expect(containing(frames, control)).toBe(6);
    expect(containing(frames, marker)).toBe(0);
    expect(onPort(frames, DEFAULT_PORTS.vxlanIpsec)).toEqual([]);
    expect(frames.filter(isEsp).length).toBeGreaterThan(0);
    return frames;
  }

  /** From before `work` until after it, on the encrypted network. */
  const lost = (work: () => Promise<void>): Promise<number> =>
    lostDuring(h1.netns, addresses.get("sealed") ?? "", [work], 0.1);

  /** Counters of the kernel, all of them of errors. */
  const xfrmErrors = async (host: LabHost): Promise<string> =>
    host.exec("grep", "-v", "\\s0$", "/proc/net/xfrm_stat").catch(() => "");

  const associations = async (host: LabHost): Promise<string[]> =>
    [...(await host.exec("ip", "xfrm", "state")).matchAll(/spi (0x[0-9a-f]+)/g)].map(
      ([, spi = ""]) => spi,
    );

  test("full-size packets cross as ESP, none larger; on the plain network they are seen", async () => {
    const frames = await nothingInClear(async (marker) => {
      const options = ["-M", "do", "-p", marker];
      expect(await ping("sealed", ...options, "-s", `${FULL_PING_BYTES}`)).toBe(3);
      expect(await ping("sealed", ...options, "-s", `${FULL_PING_BYTES + 1}`)).toBe(0);
    });
    // Ethernet, and the underlay's MTU to the last byte.
    expect(Math.max(...frames.filter(isEsp).map(({ length }) => length))).toBe(14 + 1500);
  });

  test("the way under ESP is asked through ESP: closed on the way it is silent, and the host is not", async () => {
    const path = async () => {
      const { encryption, dataPath } = await h1.status();
      const [peer] = encryption.ipsec?.peers ?? [];
      const inClear = dataPath.find(({ name }) => name === "h2")?.roundTripMs !== undefined;
      return { name: peer?.name, path: peer?.path, why: peer?.why, inClear };
    };
    const answers = async (): Promise<void> => {
      const [peer] = (await h1.status()).encryption.ipsec?.peers ?? [];
      expect(peer?.roundTripMs).toBeGreaterThan(0);
      expect(await path()).toEqual({ name: "h2", path: true, why: undefined, inClear: true });
    };
    await eventually(PATIENCE_MS, "an answer under ESP", answers);
    const rule = "chain in { type filter hook input priority -400; meta l4proto esp drop; }";
    await h2.exec("nft", `table inet closed { ${rule}; }`);
    await eventually(PATIENCE_MS, "silence under ESP", async () =>
      expect(await path()).toEqual({ name: "h2", path: false, why: "silent", inClear: true }),
    );
    await h2.exec("nft", "delete table inet closed");
    await eventually(PATIENCE_MS, "an answer again", answers);
  });

  test("new keys under traffic cost no packet and no error", async () => {
    const before = await associations(h1);
    const errors = await Promise.all(lab.hosts.map(xfrmErrors));
    const count = await lost(async () => {
      expect(await h1.ask("keys/rotate", "POST")).toMatchObject({ rotated: ["h2"] });
      await eventually(PATIENCE_MS, "keys that are all new", async () => {
        const now = await associations(h1);
        expect(now.length).toBeGreaterThanOrEqual(2);
        expect(now.filter((spi) => before.includes(spi))).toEqual([]);
      });
    });
    expect(count).toBe(0);
    expect(await Promise.all(lab.hosts.map(xfrmErrors))).toEqual(errors);
  }, 300_000);

  test("an agent that is killed, and one that starts again, lose no packet and let none out in clear", async () => {
    await nothingInClear(async (marker) => {
      const count = await lost(async () => {
        await h1.stopService("agent", "KILL");
        expect(await ping("sealed", "-p", marker)).toBe(3);
        startAgent(h1, false);
        await whole();
        expect(await ping("sealed", "-p", marker)).toBe(3);
      });
      expect(count).toBe(0);
    });
  }, 900_000);

  test("what is flushed while there is no agent leaves nothing in clear, and the next puts it back", async () => {
    await nothingInClear(async (marker) => {
      await h1.stopService("agent", "KILL");
      for (const what of ["policy", "state"]) await h1.exec("ip", "xfrm", what, "flush");
      expect(await ping("sealed", "-W", "1", "-p", marker)).toBe(0);
      startAgent(h1, false);
      await whole();
      expect(await ping("sealed", "-p", marker)).toBe(3);
    });
  }, 900_000);

  test("forged frames reach nobody and are counted: in clear from a stranger, under ESP from a member for another", async () => {
    const { link } = await h1.ask<Exposed>("networks/exposed?name=sealed", "POST");
    const { vni } = await h1.ask<{ vni: number }>("networks/inspect?name=sealed");
    const [here, there] = [await end("h1"), await end("h2")];
    const capture = await Capture.start(h1.netns, link, join(directory, "arrivals"));
    const arrived = (marker: Buffer): number => containing(capture.frames(), marker);
    const send = (netns: string, from: FrameEnd): Buffer => {
      const marker = newMarker();
      const file = join(directory, "datagram");
      writeFileSync(file, vxlanDatagram(vni, from, here, marker));
      const { vxlanIpsec } = DEFAULT_PORTS;
      const to = `UDP-SENDTO:198.51.100.1:${netns === h2.netns ? past(vxlanIpsec) : vxlanIpsec}`;
      execFileSync("nsenter", [`--net=${netns}`, "socat", "-u", `OPEN:${file}`, to]);
      return marker;
    };
    const dropped = async (): Promise<Readonly<Record<string, number>>> =>
      (await h1.status()).guards.dropped;
    turn(h2.netns, [DEFAULT_PORTS.vxlanIpsec]);
    const { unencrypted = 0, notSpeaker = 0 } = await dropped();
    try {
      const forged = [
        send(switchOf(lab), there),
        send(h2.netns, { ...there, ip: "10.99.99.99" as Ip }),
        send(h2.netns, { ...there, mac: "02:42:0a:00:00:77" as Mac }),
      ];
      const own = send(h2.netns, there);
      await eventually(PATIENCE_MS, "the member's own", async () => expect(arrived(own)).toBe(1));
      expect(forged.map(arrived)).toEqual([0, 0, 0]);
      expect(await dropped()).toMatchObject({
        unencrypted: unencrypted + 1,
        notSpeaker: notSpeaker + 2,
      });
    } finally {
      await capture.stop();
    }
  });

  /** Of a host on the encrypted network. */
  async function end(name: string): Promise<FrameEnd> {
    const rows = await h1.ask<{ host: string; ips: Ip[]; mac: Mac }[]>("endpoints?network=sealed");
    const { ips, mac } = rows.find(({ host }) => host === name)!;
    return { ip: ips[0]!, mac };
  }
});
