// @module-tag never

import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LinuxIpsec } from "../../agent/encryption/ipsec/linux-ipsec.ts";
import { setClassDown } from "../../agent/encryption/ipsec/class-devices.ts";
import { classPolicies } from "../../agent/encryption/ipsec/policies.ts";
import { NETLINK } from "../../agent/kernel/netlink/raw-socket.ts";
import { Netlink } from "../../agent/kernel/netlink/socket.ts";
import { policyText, putPolicy } from "../../agent/kernel/netlink/xfrm.ts";
import { Ip } from "../../shared/ip.ts";
import { containing, newMarker } from "../support/capture.ts";
import { vtepOf } from "../support/cluster.ts";
import { IPSEC_PORT, type IpsecHost, IpsecHosts } from "../support/ipsec-hosts.ts";

/**
 * No keys at all: what goes out of the class's port, or comes in, is in clear. Each lock is tried as the
 * only one; and without any it is open, so the test can fail. Needs no ESP in the kernel.
 */

const MEMBERS = 2;
/** For a packet that is on its way. */
const LOOKS = 20;
const LOCKS = ["require", "block", "nftables"] as const;
type Lock = (typeof LOCKS)[number];

describe.each([4, 6] as const)("the locks of the IPsec class over IPv%i", (family) => {
  let world: IpsecHosts;
  let here: IpsecHost;
  let there: IpsecHost;

  beforeAll(async () => {
    world = new IpsecHosts(MEMBERS, family);
    await world.open(MEMBERS);
    [here, there] = [world.member(1), world.member(2)];
    for (const { guardReconciler, guards } of [here, there]) {
      // Nobody puts back here what the test takes away.
      await guardReconciler.stop();
      await guards.close();
    }
    // The other host is one that sends and takes anything.
    await only(there, []);
  });
  afterAll(async () => {
    await world.close();
  });

  async function only(host: IpsecHost, locks: readonly Lock[]): Promise<void> {
    world.hosts.in(host.netns, "ip xfrm policy flush");
    const socket = new Netlink(host.netns, NETLINK.xfrm);
    const policies = classPolicies(host.vtep).filter(({ action }) => locks.includes(action));
    await socket.batch(policies.map((policy) => putPolicy(policy, IPSEC_PORT)));
    socket.close();
    if (!locks.includes("nftables")) world.hosts.in(host.netns, "nft flush ruleset");
    else if (!(await host.guards.verify()))
      await host.guards.set(world.desiredGuards(host.k, MEMBERS));
  }

  /** Frames in clear on the link, of what the container sends. */
  async function leaked(): Promise<number> {
    const marker = newMarker();
    const frames = await world.captured(1, () =>
      world.ping(1, 2, "secret", "-c", "2", "-p", marker.toString("hex")),
    );
    return containing(frames, marker);
  }

  /** Frames in clear that reach the container, of those that a member's VTEP sends. */
  async function arrived(): Promise<number> {
    const before = world.received(1);
    world.inject(there.netns, 1, world.frame(2, 1, newMarker()));
    // The kernel may be handing it on still.
    for (let look = 1; world.received(1) === before && look < LOOKS; look++) await delay(50);
    return world.received(1) - before;
  }

  async function withClearNetwork(locks: readonly Lock[]): Promise<{ out: number; in: number }> {
    await only(here, locks);
    return { out: await leaked(), in: await arrived() };
  }

  test.each(LOCKS)("%s alone lets nothing out and nothing in", async (lock) => {
    expect(await withClearNetwork([lock])).toEqual({ out: 0, in: 0 });
  });

  test("without any, a container's packets are on the link in clear, and clear ones reach it", async () => {
    const { out, in: into } = await withClearNetwork([]);
    expect(out).toBeGreaterThan(0);
    expect(into).toBe(1);
  });

  test("somebody's policy that allows the port, there before ours, is held by nftables", async () => {
    await only(here, ["nftables"]);
    const policy = `src ${here.vtep} dst ${there.vtep} proto udp dport ${IPSEC_PORT} priority 0`;
    world.hosts.in(here.netns, `ip xfrm policy add dir out ${policy} action allow`);
    await here.ipsecKernel.setPolicies();
    expect(await leaked()).toBe(0);
    world.hosts.in(here.netns, "nft flush ruleset");
    expect(await leaked()).toBeGreaterThan(0);
  });

  test("without any, devices that are set down let nothing out and nothing in; those in clear go on", async () => {
    await only(here, []);
    expect(await leaked()).toBeGreaterThan(0);
    const directory = join(world.hosts.directory, "netns1");
    await setClassDown(directory, IPSEC_PORT);
    // The capture's last packet is one of the network in clear.
    expect({ out: await leaked(), in: await arrived() }).toEqual({ out: 0, in: 0 });
    // Put up as the next pass would.
    await world.extend(here, "secret");
    expect(await leaked()).toBeGreaterThan(0);
  });

  test("each policy that is taken away or changed is missed, told, and written again", async () => {
    await only(here, LOCKS);
    const { netns, vtep } = here;
    const told: string[] = [];
    const kernel = new LinuxIpsec({ local: vtep, udpPort: IPSEC_PORT, hostNetns: netns });
    kernel.onLoss((of) => told.push(of));
    for (const policy of classPolicies(vtep)) {
      const { direction, source, destination } = policy;
      const any = policy.family === 4 ? "0.0.0.0/0" : "::/0";
      const ends = `src ${source ?? any} dst ${destination ?? any} proto udp dport ${IPSEC_PORT}`;
      const verbs = [
        `delete dir ${direction} ${ends}`,
        `update dir ${direction} ${ends} priority 5 action allow`,
      ];
      for (const verb of verbs) {
        expect(await kernel.verifyPolicies(), policyText(policy)).toBe(true);
        told.length = 0;
        // Quiet for a moment after our own writing, and then not.
        await expect
          .poll(() => {
            world.hosts.in(netns, `ip xfrm policy ${verb.replace("delete", "update")}`);
            if (verb.startsWith("delete")) world.hosts.in(netns, `ip xfrm policy ${verb}`);
            return told;
          })
          .toContain("policies");
        expect(await kernel.verifyPolicies(), verb).toBe(false);
        await kernel.setPolicies();
      }
    }
    await kernel.close();
  });

  test("policies of an address that the host has no more go by a word, or with all others; nobody else's", async () => {
    const { netns } = here;
    world.hosts.in(netns, "ip xfrm policy flush");
    const at = (local: Ip): LinuxIpsec =>
      new LinuxIpsec({ local, udpPort: IPSEC_PORT, hostNetns: netns });
    const kernels = [at(vtepOf(1, family)), at(vtepOf(7, family))];
    const [before, now] = kernels as [LinuxIpsec, LinuxIpsec];
    const others = `src ${vtepOf(9, family)} dst ${vtepOf(8, family)} proto udp dport ${IPSEC_PORT}`;
    world.hosts.in(netns, `ip xfrm policy add dir out ${others} action allow`);
    const held = async () => [await before.verifyPolicies(), await now.verifyPolicies()];
    await before.setPolicies();
    await now.setPolicies();
    expect(await held()).toEqual([true, true]);
    await now.removeElsewhere();
    expect(await held()).toEqual([false, true]);
    // As `leave` does, which may not know where the host was.
    await before.setPolicies();
    kernels.push(at(Ip.parse(family === 4 ? "127.0.0.1" : "::1")));
    await kernels[2]!.removeAll();
    const left = world.hosts.in(netns, "ip xfrm policy list").match(/^src/gm);
    expect(left).toHaveLength(1);
    for (const kernel of kernels) await kernel.close();
  });

  test("a kernel without ESP is told as such, with what to load; one with it can do it", async () => {
    const { vtep, netns } = here;
    const kernel = new LinuxIpsec({ local: vtep, udpPort: IPSEC_PORT, hostNetns: netns });
    const key = `0x${"5a".repeat(36)}`;
    const byHand = `src ${vtepOf(1, family)} dst ${vtepOf(1, family)} proto esp spi 0x1234 reqid 9`;
    let can = true;
    try {
      const argv = `${byHand} mode transport aead rfc4106(gcm(aes)) ${key} 128`;
      world.hosts.in(netns, `ip xfrm state add ${argv}`);
    } catch {
      can = false;
    }
    const outcome = await kernel.check().then(
      () => true,
      (error: unknown) => error,
    );
    if (can) expect(outcome).toBe(true);
    else
      expect(outcome).toMatchObject({
        code: "UNSUPPORTED",
        next: expect.stringContaining("modprobe"),
      });
    await kernel.close();
  });
});
