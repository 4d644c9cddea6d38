import { once } from "node:events";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../support/lab-host.ts";
import { udpIn } from "../support/netns-sockets.ts";
import { addressesOf, memberOf, NETWORK, service, VIP, VIP6 } from "../support/services.ts";
import { StraySegments } from "../support/stray-segment.ts";
import { Datagrams, PORT, VirtualAddresses } from "../support/virtual-addresses.ts";

/** Virtual addresses in the namespace of a client: host 1 of four, which the others are members for. */

const VIPS = [VIP, VIP6];
const ALL = [2, 3, 4].map((k) => memberOf(k));

let net: VirtualAddresses;

beforeAll(async () => {
  net = new VirtualAddresses(3);
  await net.listen();
});

beforeEach(async () => {
  net.serve();
  await net.put(service(ALL));
});

/** What conntrack remembers of a test is not the next one's. */
afterEach(async () => {
  await net.balancing.withdraw("client");
});

afterAll(() => net.close());

const datagramsTo = (address: string): Promise<Datagrams> =>
  Datagrams.from(net.client, address === VIP ? "0.0.0.0" : "::");

/** How a connection attempt ends that does not become one. */
async function failureOf(address: string): Promise<string> {
  return net.dial(address).then(
    ({ member }) => `answered by ${member}`,
    (error: NodeJS.ErrnoException) => error.code ?? error.message,
  );
}

describe("who is reached", () => {
  test.each(VIPS)("each member, by TCP, UDP and ping: %s", async (address) => {
    expect(await net.reached(60, address)).toEqual(new Set([2, 3, 4]));
    const found = new Set<number>();
    for (let i = 0; i < 60; i++) {
      const datagrams = await datagramsTo(address);
      found.add(await datagrams.ask(address));
      datagrams.close();
    }
    expect(found).toEqual(new Set([2, 3, 4]));
    expect(await net.hosts.ping(net.client, address)).toBe(3);
  });

  test.each(VIPS)("a member that dials and is chosen itself: %s", async (address) => {
    net.serve(net.host(2), "member");
    await net.put(service([memberOf(2)]));
    expect(await net.reached(3, address, net.host(2))).toEqual(new Set([2]));
    const datagrams = await Datagrams.from(net.host(2), address === VIP ? "0.0.0.0" : "::");
    expect(await datagrams.ask(address)).toBe(2);
    datagrams.close();
    expect(await net.hosts.ping(net.host(2), address)).toBe(3);
    await net.balancing.withdraw("member");
  });

  test("a sticky service: the same member, and another one when that goes", async () => {
    await net.put(service(ALL, { sticky: true }));
    const [chosen, ...more] = await net.reached(20);
    expect(more).toEqual([]);
    expect(await net.reached(3, VIP6)).toEqual(new Set([chosen]));
    await net.put(
      service(
        ALL.filter(({ ipv4 }) => ipv4 !== addressesOf(chosen!).ipv4),
        { sticky: true },
      ),
    );
    const [next, ...others] = await net.reached(20);
    expect(others).toEqual([]);
    expect(next).not.toBe(chosen);
  });

  test("containers within the client, which forwards for them", async () => {
    const inner = net.hosts.netns("inner");
    const { hosts, client } = net;
    for (const command of [
      `ip link add in0 type veth peer name eth0 netns ${inner}`,
      "ip link set in0 up",
      "ip address add 10.9.0.1/24 dev in0",
      "sysctl -qw net.ipv4.ip_forward=1",
      "nft add table ip inner",
      "nft add chain ip inner post { type nat hook postrouting priority 100; }",
      "nft add rule ip inner post ip saddr 10.9.0.0/24 masquerade",
    ])
      hosts.in(client, command);
    hosts.in(inner, "ip address add 10.9.0.2/24 dev eth0");
    hosts.in(inner, "ip link set eth0 up");
    hosts.in(inner, "ip route add default via 10.9.0.1");
    expect(await net.reached(40, VIP, inner)).toEqual(new Set([2, 3, 4]));
    const held = await net.dial(VIP, inner);
    await net.put(service([], { gone: [addressesOf(held.member)] }));
    // Its socket is not the client's: the next packet is refused.
    await expect(held.echo()).rejects.toMatchObject({ code: "ECONNRESET" });
    await expect(net.dial(VIP, inner)).rejects.toMatchObject({ code: "ECONNREFUSED" });
    hosts.in(client, "nft delete table ip inner");
    hosts.in(client, "ip link delete in0");
  });
});

describe("when members change", () => {
  test("established connections live, new ones go to who is ready", async () => {
    const held = await Promise.all(
      Array.from({ length: 100 }, (_, i) => net.dial(i % 2 === 0 ? VIP : VIP6)),
    );
    for (let i = 0; i < 30; i++) {
      const away = 2 + (i % 3);
      await net.put(
        service(ALL.map((one, k) => (k + 2 === away ? memberOf(away, "draining") : one))),
      );
      expect(await net.reached(4)).not.toContain(away);
    }
    await net.put(service([memberOf(3)]));
    await Promise.all(held.map((one) => one.echo()));
    // Neither has a service that ended any to break.
    await net.put();
    await Promise.all(held.map((one) => one.echo()));
  });

  test.each(VIPS)("nobody: refused, by TCP and UDP: %s", async (address) => {
    await net.put(service([memberOf(2, "draining"), memberOf(3, "unreachable")]));
    expect(await failureOf(address)).toBe("ECONNREFUSED");
    const udp = await udpIn(net.client, address === VIP ? "0.0.0.0" : "::", 0);
    udp.connect(PORT, address);
    await once(udp, "connect");
    udp.send("x");
    const [error] = (await once(udp, "error")) as [NodeJS.ErrnoException];
    expect(error.code).toBe("ECONNREFUSED");
    udp.close();
  });

  test("of a host that is away: what is not answered moves on, established goes on", async () => {
    await net.put(service([memberOf(4)]));
    const established = await net.dial();
    silence(4);
    const begun = net.begin();
    const datagrams = await datagramsTo(VIP);
    datagrams.send(VIP);
    await eventually(10_000, "an unanswered connection and datagram", async () => {
      if (unanswered() < 2) throw new Error("not in conntrack yet");
    });
    await net.put(service([memberOf(2), memberOf(4, "unreachable")]));
    const [hello] = (await once(begun, "data")) as [Buffer];
    expect(hello.toString()).toBe("2\n");
    expect(await datagrams.ask(VIP)).toBe(2);
    datagrams.close();
    speak(4);
    await established.echo();
  });

  test("of an endpoint that is gone: established is reset, datagrams move on", async () => {
    await net.put(service([memberOf(4)]));
    const held = await Promise.all([net.dial(VIP), net.dial(VIP6)]);
    // Its programs only wait: none sends what could be refused.
    const ended = Promise.all(
      held.map(
        async ({ socket }) => ((await once(socket, "error")) as [NodeJS.ErrnoException])[0].code,
      ),
    );
    const datagrams = await Promise.all(VIPS.map(datagramsTo));
    for (const [i, one] of datagrams.entries()) expect(await one.ask(VIPS[i]!)).toBe(4);
    silence(4);
    await net.put(service([memberOf(2)], { gone: [addressesOf(4)] }));
    expect(await ended).toEqual(["ECONNABORTED", "ECONNABORTED"]);
    for (const [i, one] of datagrams.entries()) {
      await eventually(10_000, "an answer of another member", async () => {
        if ((await one.ask(VIPS[i]!)) !== 2) throw new Error("not yet");
      });
      one.close();
    }
    speak(4);
    // Somebody else may have the address next: nothing is left of it.
    await net.put(service([memberOf(2), memberOf(4)]));
    expect(await net.reached(30)).toEqual(new Set([2, 4]));
  });
});

test("a late segment, far outside the window, ends no connection", async () => {
  await net.put(service([memberOf(2)]));
  const stray = new StraySegments(net.host(2));
  const held = await net.dial();
  const late = async (): Promise<void> => {
    const server = { address: addressesOf(2).ipv4, port: PORT };
    stray.send(server, { address: addressesOf(1).ipv4, port: held.socket.localPort! });
    await held.echo();
  };
  await held.echo();
  await late();
  // Nobody puts back what is taken away now. Without the setting the rule alone:
  await net.balancing.stop();
  net.hosts.in(net.client, "sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=0");
  await late();
  // And with neither the client's kernel answers the member by a reset.
  net.hosts.in(net.client, "nft flush chain inet overlay_ts_vip member");
  await expect(late()).rejects.toMatchObject({ code: "ECONNRESET" });
  stray.close();
  await net.restart();
  net.serve();
  await net.put(service([memberOf(2)]));
});

/** As a host that died: nothing comes back, not even a refusal. */
function silence(k: number): void {
  const host = net.host(k);
  net.hosts.in(host, "nft add table inet silent");
  for (const hook of ["input", "output"]) {
    net.hosts.in(
      host,
      `nft add chain inet silent ${hook} { type filter hook ${hook} priority 0; }`,
    );
    net.hosts.in(host, `nft add rule inet silent ${hook} meta l4proto { tcp, udp } drop`);
  }
}

function speak(k: number): void {
  net.hosts.in(net.host(k), "nft delete table inet silent");
}

function unanswered(): number {
  return entries().filter((line) => line.includes("[UNREPLIED]")).length;
}

function entries(): string[] {
  return net.hosts.in(net.client, "cat /proc/net/nf_conntrack").split("\n");
}

describe("whose the table is", () => {
  const put = (): number => net.balancing.counters()["tablesPutBack"]!;

  test("an agent that comes after another takes it as it is, or changes it, and breaks nothing", async () => {
    const held = await Promise.all([net.dial(VIP), net.dial(VIP6)]);
    await net.restart();
    net.serve();
    await net.put(service(ALL));
    expect(net.balancing.counters()).toMatchObject({ tablesAdopted: 1, tablesWritten: 0 });
    await net.restart();
    net.serve();
    await net.put(service([memberOf(3)]));
    expect(net.balancing.counters()).toMatchObject({ tablesAdopted: 0, tablesWritten: 1 });
    for (const one of held) await one.echo();
    expect(await net.reached(10)).toEqual(new Set([3]));
    expect(net.balancing.served("client")).toEqual([
      { network: NETWORK, name: "web", ipv4: VIP, ipv6: VIP6 },
    ]);
  });

  test.each([
    ["took it away", "nft delete table inet overlay_ts_vip"],
    ["changed its rules", "nft flush chain inet overlay_ts_vip refused"],
    ["made the setting another", "sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=0"],
    ["took an address out", `nft delete element inet overlay_ts_vip services { ${VIP} }`],
  ])("who %s finds it put back", async (_what, command) => {
    const held = await net.dial();
    const before = put();
    net.hosts.in(net.client, command);
    await eventually(20_000, "the table put back", async () => {
      if (put() === before) throw new Error("not yet");
    });
    expect(await net.reached(3)).not.toContain(1);
    await held.echo();
  });

  test("its thread ends: the next one takes the table as it is", async () => {
    const { tablesAdopted } = net.balancing.counters();
    await net.balancing.crash();
    await eventually(20_000, "a table adopted", async () => {
      if (net.balancing.counters()["tablesAdopted"] === tablesAdopted) throw new Error("not yet");
    });
    await net.put(service([memberOf(2)]));
    expect(await net.reached(3)).toEqual(new Set([2]));
  });

  test("a namespace that comes later is waited for, one that goes is gone; withdrawn, nothing stays", async () => {
    const path = `${net.hosts.directory}/later`;
    net.serve(path, "later");
    const stateIs = (state: string): Promise<void> =>
      eventually(20_000, state, async () => {
        expect(net.balancing.clients().find(({ id }) => id === "later")?.state).toBe(state);
      });
    await stateIs("waiting");
    net.hosts.netns("later");
    await stateIs("served");
    net.hosts.in(net.client, `umount ${path}`);
    await stateIs("failed");
    await net.balancing.withdraw("later");
    await net.balancing.withdraw("client");
    expect(net.hosts.in(net.client, "nft list tables")).toBe("");
  });
});
