import { readdirSync, readFileSync, statSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { TUNNEL_PRESENCE_OPTIONS } from "../../agent/core/liveness/failure-detector.ts";
import { uapiSocket } from "../../agent/encryption/wireguard/go-process.ts";
import { WireguardProof } from "../../agent/encryption/wireguard/proof.ts";
import { FailureDetector } from "../../agent/membership/failure-detector.ts";
import { systemClock, systemTimers } from "../../shared/node/system.ts";
import { silentLog } from "../../shared/ports.ts";
import {
  insideOf,
  peer,
  privateKey,
  wanted,
  wireguardContract,
} from "../contract/wireguard-contract.ts";
import { nodeId } from "../support/cluster.ts";
import { eventually } from "../support/lab-host.ts";
import { RealWireguardHosts } from "../support/wireguard-hosts.ts";
import { wireguardTraffic } from "../support/wireguard-traffic.ts";

describe("wireguard-go", () => {
  let hosts: RealWireguardHosts;
  beforeAll(() => {
    hosts = new RealWireguardHosts(3);
  });
  afterEach(() => hosts.reset());
  afterAll(() => hosts.close());
  wireguardContract(() => hosts);
  wireguardTraffic(() => hosts);

  test("a process that was killed is silence, and is started again by the next word", async () => {
    const connect = (k: number): Promise<void> =>
      hosts.tunnel(k).set(privateKey(k), wanted(k, [peer(3 - k)]));
    await connect(1);
    await connect(2);
    await eventually(20_000, "an answer", async () => expect(await hosts.reaches(1, 2)).toBe(true));
    const lost = new Promise<void>((resolve) => hosts.tunnel(1).onLoss(resolve));
    process.kill(processOf(hosts.device(1)), "SIGKILL");
    await lost;
    expect(await hosts.tunnel(1).read()).toBeUndefined();
    expect(await hosts.reaches(1, 2)).toBe(false);
    await connect(1);
    await eventually(20_000, "an answer", async () => expect(await hosts.reaches(1, 2)).toBe(true));
  });

  test("a route that somebody deletes is found by those who ask through the tunnel, until it is put back", async () => {
    const asked = { mtuBytes: 1440, peers: [{ node: nodeId(2), address: insideOf(2) }] };
    const failureDetector = new FailureDetector({
      encryption: "wireguard",
      presence: TUNNEL_PRESENCE_OPTIONS,
      proof: new WireguardProof(hosts.tunnel(1)),
      desired: () => asked,
      near: () => new Set([nodeId(2)]),
      name: () => "h2",
      changed: () => {},
      clock: systemClock,
      timers: systemTimers,
      log: silentLog,
    });
    const say = (k: number): Promise<void> =>
      hosts.tunnel(k).set(privateKey(k), wanted(k, [peer(3 - k)]));
    const found = async (what: "lost" | "answering") =>
      expect(failureDetector.found()[what].size).toBe(1);
    try {
      await say(1);
      await say(2);
      failureDetector.start();
      await eventually(20_000, "an answer", () => found("answering"));
      const lost = new Promise<void>((resolve) => hosts.tunnel(1).onLoss(resolve));
      hosts.hosts.in(hosts.tunnel(1).transportNetns, "ip route del 198.19.0.0/16");
      await lost;
      await eventually(20_000, "silence", () => found("lost"));
      await say(1);
      await eventually(20_000, "an answer", () => found("answering"));
      expect(failureDetector.found().lost.size).toBe(0);
    } finally {
      await failureDetector.stop();
    }
  });

  test("keys are in no argument and no environment of the process", async () => {
    await hosts.tunnel(1).set(privateKey(1), wanted(1, [peer(2)]));
    const pid = processOf(hosts.device(1));
    const key = privateKey(1).reveal();
    for (const file of ["cmdline", "environ"]) {
      const text = readFileSync(`/proc/${pid}/${file}`, "utf8");
      for (const form of ["hex", "base64", "base64url"] as const)
        expect(text).not.toContain(key.toString(form).slice(0, 40));
    }
    expect(statSync(uapiSocket(hosts.device(1))).mode & 0o077).toBe(0);
  });

  test("a host that has neither says so, and what to do", async () => {
    vi.stubEnv("PATH", "/nowhere");
    try {
      await expect(hosts.tunnel(1).set(privateKey(1), wanted(1, [peer(2)]))).rejects.toMatchObject({
        code: "UNSUPPORTED",
        message: expect.stringContaining("neither its kernel nor"),
        next: expect.stringContaining("wireguard-go"),
      });
    } finally {
      vi.unstubAllEnvs();
    }
    expect(await hosts.tunnel(1).read()).toBeUndefined();
  });
});

function processOf(device: string): number {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)))
    try {
      const [program = "", , name] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      if (program.endsWith("wireguard-go") && name === device) return Number(pid);
    } catch {
      // It has ended since the listing.
    }
  throw new Error(`no process runs ${device}`);
}
