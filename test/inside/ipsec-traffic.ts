import { afterAll, beforeAll, expect, test } from "vitest";
import { largestEspMtuBytes } from "../../shared/esp.ts";
import type { Family } from "../../shared/ip.ts";
import { containing, isEsp, newMarker } from "../support/capture.ts";
import { type IpsecHost, IpsecHosts } from "../support/ipsec-hosts.ts";
import { loadModules } from "./modules.ts";

const ICMP_BYTES = 28;

/** Keys that change all the time, so that whatever can go wrong with them does. */
const KEYS = {
  rekeyMs: 1000,
  jitter: 0.5,
  outboundGraceMs: 200,
  inboundGraceMs: 1000,
  retryMs: 50,
};

/** Two hosts with a container each; `seconds`: how long keys change under a ping. */
export function ipsecTraffic(family: Family, seconds: number): void {
  let world: IpsecHosts;
  let one: IpsecHost;
  let two: IpsecHost;

  beforeAll(async () => {
    loadModules();
    world = new IpsecHosts(3, family, KEYS);
    await world.open(2);
    [one, two] = [world.member(1), world.member(2)];
  }, 300_000);
  afterAll(async () => {
    await world.close();
  });

  const ready = (): Promise<void> =>
    expect.poll(() => world.ready(), { timeout: 60_000, interval: 50 }).toBe(true);

  const ping = (marker: Buffer, ...options: string[]): Promise<number> =>
    world.ping(1, 2, "secret", "-W", "3", "-p", marker.toString("hex"), ...options);

  test("before there is a key nothing is on the link", async () => {
    const marker = newMarker();
    const frames = await world.captured(1, () => ping(marker, "-c", "2"));
    expect(containing(frames, marker)).toBe(0);
    expect(frames.filter(isEsp)).toEqual([]);
  });

  test("full-size packets cross, as ESP and never in clear; on the network beside it they are seen", async () => {
    await world.startIpsec();
    await ready();
    const bytes = largestEspMtuBytes(family, 1500) - ICMP_BYTES;
    const [secret, clear] = [newMarker(), newMarker()];
    const frames = await world.captured(1, async () => {
      expect(await ping(secret, "-M", "do", "-s", `${bytes}`)).toBe(3);
      expect(await world.ping(1, 2, "clear", "-p", clear.toString("hex"))).toBe(3);
    });
    expect(containing(frames, secret)).toBe(0);
    expect(frames.filter(isEsp).length).toBeGreaterThanOrEqual(6);
    // Ethernet, and the underlay's MTU to the last byte: a larger packet would not fit.
    expect(Math.max(...frames.filter(isEsp).map(({ length }) => length))).toBe(14 + 1500);
    expect(containing(frames, clear)).toBeGreaterThanOrEqual(6);
    const told = one.ipsec.status();
    expect(told).toMatchObject([{ node: two.node, ready: true, failure: undefined }]);
  });

  test(`${seconds} s of new keys every second, both ends, under a ping every 5 ms: none lost, no error counted`, async () => {
    const count = (seconds * 1000) / 5;
    const errors = (): unknown[] => [world.xfrmErrors(1), world.xfrmErrors(2)];
    const before = errors();
    const installed = one.ipsec.counters().installed;
    const answers = await world.ping(1, 2, "secret", "-i", "0.005", "-c", `${count}`, "-W", "5");
    expect(answers).toBe(count);
    expect(errors()).toEqual(before);
    expect(one.ipsec.counters().installed - installed).toBeGreaterThanOrEqual(seconds / 2);
    expect((await one.ipsecKernel.list()).length).toBeLessThanOrEqual(12);
  }, 600_000);

  test("an agent that starts again takes over the keys it finds, and no packet is lost", async () => {
    const before = await one.ipsecKernel.list();
    expect(before.length).toBeGreaterThanOrEqual(2);
    const pinging = world.ping(1, 2, "secret", "-i", "0.02", "-c", "200", "-W", "5");
    await world.restart(one);
    await ready();
    await expect
      .poll(
        async () => {
          const now = new Set((await one.ipsecKernel.list()).map(({ spi }) => spi));
          return before.filter(({ spi }) => now.has(spi));
        },
        { timeout: 60_000, interval: 200 },
      )
      .toEqual([]);
    expect(await pinging).toBe(200);
  });

  test.each([
    ["ip xfrm policy flush"],
    ["ip xfrm state flush"],
    ["nft flush ruleset"],
    ["ip xfrm state deleteall"],
  ])("%s: closed meanwhile, and put back", async (flush) => {
    const marker = newMarker();
    const members = [one, two];
    const putBack = (what: (host: IpsecHost) => Promise<boolean>): Promise<void> =>
      expect.poll(() => Promise.all(members.map(what)), { timeout: 60_000 }).toEqual([true, true]);
    const frames = await world.captured(1, async () => {
      const pinging = ping(marker, "-i", "0.01", "-c", "300");
      for (const { netns } of members) world.hosts.in(netns, flush);
      await putBack(({ ipsecKernel }) => ipsecKernel.verifyPolicies());
      await putBack(async ({ guardReconciler, guards }) => {
        await guardReconciler.check();
        return guards.verify();
      });
      await pinging;
      await expect.poll(() => ping(marker, "-c", "1"), { timeout: 60_000 }).toBe(1);
    });
    expect(containing(frames, marker)).toBe(0);
    expect(frames.filter(isEsp).length).toBeGreaterThan(0);
    await ready();
  });

  test("clear frames of a stranger, and of one who takes a member's address, reach nobody and are counted", async () => {
    const outside = world.netns(3);
    const address = `${two.vtep}/${family === 4 ? 32 : "128 nodad"}`;
    const before = world.received(1);
    const { unencrypted = 0 } = await one.guards.counters();
    const frame = world.frame(2, 1, newMarker());
    world.inject(outside, 1, frame);
    world.hosts.in(two.netns, "ip link set eth0 down");
    world.hosts.in(outside, `ip address add dev eth0 ${address}`);
    world.inject(outside, 1, frame, `,bind=${family === 4 ? two.vtep : `[${two.vtep}]`}`);
    expect(await one.guards.counters()).toMatchObject({ unencrypted: unencrypted + 2 });
    expect(world.received(1)).toBe(before);
  });
}
