import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { largestEspMtuBytes } from "../../shared/esp.ts";
import { isEsp } from "../support/capture.ts";
import { vtepOf } from "../support/cluster.ts";
import { IPSEC_PORT, IpsecHosts, SECRET } from "../support/ipsec-hosts.ts";
import { eventually } from "../support/lab-host.ts";
import { loadModules } from "./modules.ts";

/** What the keys are for, and how much of each packet proves it (RFC 4106). */
const AEAD = "rfc4106(gcm(aes))";
const ICV_BITS = 128;
const MTU_BYTES = largestEspMtuBytes(4, 1500);

interface Link {
  readonly ifname: string;
  readonly mtu: number;
  readonly linkinfo?: { readonly info_kind?: string };
}

/** Hosts 1 and 2 have a network of ours, 3 and 4 one that is made by hand. */
describe("what a packet passes under ESP", () => {
  let world: IpsecHosts;
  const containers = new Map<number, string>();

  beforeAll(async () => {
    loadModules();
    world = new IpsecHosts(4, 4);
    await world.open(2);
    await world.startIpsec();
    await eventually(60_000, "keys", async () => expect(world.ready()).toBe(true));
    const keys = { 3: newKey(), 4: newKey() };
    byHand(3, 4, keys);
    byHand(4, 3, keys);
  }, 300_000);
  afterAll(() => world.close());

  function newKey(): string {
    return `0x${randomBytes(20).toString("hex")}`;
  }

  function byHand(k: 3 | 4, other: 3 | 4, keys: Readonly<Record<3 | 4, string>>): void {
    const host = world.netns(k);
    const ip = (words: string): string => world.hosts.in(host, `ip ${words}`);
    const [here, there] = [vtepOf(k), vtepOf(other)];
    for (const [from, source, destination] of [
      [k, here, there],
      [other, there, here],
    ] as const) {
      const name = `src ${source} dst ${destination} proto esp`;
      ip(
        `xfrm state add ${name} spi 0x100${from} reqid 1 mode transport replay-window 32 aead ${AEAD} ${keys[from]} ${ICV_BITS}`,
      );
      ip(
        `xfrm policy add src ${source} dst ${destination} proto udp dport ${IPSEC_PORT} dir ${from === k ? "out" : "in"} tmpl ${name} reqid 1 mode transport`,
      );
    }
    ip(`link add hand-vx type vxlan id 999 local ${here} dstport ${IPSEC_PORT} nolearning`);
    ip("link add hand-br type bridge");
    ip(`link set hand-vx mtu ${MTU_BYTES} master hand-br up`);
    ip(`link set hand-br mtu ${MTU_BYTES} up`);
    world.hosts.in(host, `bridge fdb append 00:00:00:00:00:00 dev hand-vx dst ${there}`);
    ip(`link add hand-c mtu ${MTU_BYTES} type veth peer name inside mtu ${MTU_BYTES}`);
    ip("link set hand-c master hand-br up");
    const address = `10.99.0.${k}/24`;
    containers.set(k, world.hosts.container(`hand${k}`, host, "inside", [address]));
  }

  /** Kinds of links with their MTUs, and of associations, in all namespaces of a host on the packet's way. */
  function objects(...namespaces: string[]) {
    const links = namespaces.flatMap((netns) => {
      const found = JSON.parse(world.hosts.in(netns, "ip -d -j link")) as Link[];
      return found.flatMap(({ linkinfo, mtu }) =>
        linkinfo?.info_kind === undefined ? [] : [`${linkinfo.info_kind} ${mtu}`],
      );
    });
    const states = namespaces.flatMap((netns) =>
      [
        ...world.hosts
          .in(netns, "ip xfrm state")
          .matchAll(/mode (\S+)|(?:aead|auth\S*|enc) (\S+) 0x\S+ (\d+)/g),
      ].map(([, mode, algorithm, bits]) => mode ?? `${algorithm} ${bits}`),
    );
    return { links: links.toSorted(), states: states.toSorted() };
  }

  test("is what a network made by hand has: no device more, the same cipher, the same MTU", async () => {
    const frames = await world.captured(3, async () => {
      expect(await world.hosts.ping(containers.get(3)!, "10.99.0.4", "-W", "5")).toBe(3);
    });
    expect(frames.filter(isEsp).length).toBeGreaterThanOrEqual(6);
    const byHandMade = objects(world.netns(3), containers.get(3)!);
    expect(byHandMade.states).toEqual([
      `${AEAD} ${ICV_BITS}`,
      `${AEAD} ${ICV_BITS}`,
      "transport",
      "transport",
    ]);
    const network = join(world.hosts.directory, "netns1", SECRET.id);
    const ours = objects(world.netns(1), network, world.member(1).container.secret);
    expect(ours).toEqual(byHandMade);
  });
});
