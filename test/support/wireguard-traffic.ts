import { spawn } from "node:child_process";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { DesiredNetwork } from "../../agent/core/data-plane/kernel-state.ts";
import { HeldNetwork } from "../../agent/core/data-plane/held-network.ts";
import { plan } from "../../agent/core/data-plane/plan.ts";
import { transportGuards, type WireguardPeer } from "../../agent/core/keys/wireguard.ts";
import { wireguardPublicKey } from "../../agent/encryption/wireguard/keys.ts";
import { LinuxKernel } from "../../agent/kernel/linux-kernel.ts";
import { NftGuards } from "../../agent/kernel/nft/nft-guards.ts";
import { DEFAULT_PORTS } from "../../shared/cluster-state.ts";
import { claimedAddresses } from "../../shared/documents.ts";
import type { Family } from "../../shared/ip.ts";
import { largestWireguardMtuBytes, WIREGUARD_OVERHEAD_BYTES } from "../../shared/wireguard.ts";
import { insideOf, peer, PORT, privateKey, wanted } from "../contract/wireguard-contract.ts";
import {
  Capture,
  captured,
  containing,
  datagramOf,
  isFragment,
  newMarker,
  onPort,
} from "./capture.ts";
import { app, dataPlane, endpoint, present, vtepOf } from "./cluster.ts";
import { lostDuring } from "./hosts.ts";
import { eventually } from "./lab-host.ts";
import type { RealWireguardHosts } from "./wireguard-hosts.ts";

/** Messages (whitepaper, section 5.4). */
const INITIATION = 1;
const RESPONSE = 2;
const TRANSPORT_DATA = 4;

/** In a frame of Ethernet and IPv4 without options. */
const UDP_CHECKSUM_AT = 14 + 20 + 6;

/** Undefined: no message of WireGuard. */
function wireguardType(frame: Buffer): number | undefined {
  const datagram = datagramOf(frame);
  return datagram?.destinationPort === PORT ? datagram.payload[0] : undefined;
}

/** Containers on a network of hosts 1 and 2, through whatever WireGuard this machine has. */
export function wireguardTraffic(current: () => RealWireguardHosts): void {
  let kernels: Map<number, LinuxKernel>;
  let round = 0;
  beforeEach(() => {
    round++;
    kernels = new Map(
      [1, 2].map((k) => [
        k,
        new LinuxKernel({
          netnsDirectory: current().netnsDirectory(k),
          hostNetns: current().netns(k),
        }),
      ]),
    );
  });
  afterEach(async () => {
    for (const kernel of kernels.values()) {
      for (const network of await kernel.list()) await kernel.apply(network, [{ kind: "retract" }]);
      await kernel.close();
    }
  });

  const own = (k: number) => endpoint(k, 5);
  const other = (k: number): number => (k === 1 ? 2 : 1);

  /** Container 5 of each host on `app`, in clear or inside. */
  const network = (k: number, family: Family, inClear: boolean): DesiredNetwork => {
    const vtep = (host: number) => (inClear ? vtepOf(host) : insideOf(host));
    const { gateways, ...plane } = dataPlane(k);
    const remote = own(other(k));
    return {
      ...plane,
      gateways: gateways.slice(0, 1),
      encryption: inClear ? "none" : "wireguard",
      udpPort: inClear ? DEFAULT_PORTS.vxlanPlain : DEFAULT_PORTS.vxlanWireguard,
      localVtep: vtep(k),
      mtuBytes: largestWireguardMtuBytes(family, 1500),
      ports: [{ endpoint: own(k).id, mac: own(k).mac, ips: claimedAddresses(own(k)) }],
      remotes: [
        { vtep: vtep(other(k)), members: [{ mac: remote.mac, ips: claimedAddresses(remote) }] },
      ],
    };
  };

  const tunnel = (k: number, peers: readonly WireguardPeer[], family: Family = 4): Promise<void> =>
    current()
      .tunnel(k)
      .set(privateKey(k), wanted(k, peers, { mtuBytes: 1500 - WIREGUARD_OVERHEAD_BYTES[family] }));

  const onFamily = (k: number, family: Family): WireguardPeer =>
    peer(k, { endpoint: { ip: vtepOf(k, family), port: PORT } });

  /** The container of host 1. */
  const containers = async (family: Family = 4, inClear = false): Promise<string> => {
    const [first = ""] = await Promise.all(
      [1, 2].map(async (k) => {
        const kernel = kernels.get(k)!;
        await kernel.apply(
          app.id,
          plan(new HeldNetwork(await kernel.read(app.id)), present(network(k, family, inClear))),
        );
        const link = kernel.containerLink(own(k).id);
        const addresses = [`${own(k).ipv4!}/16`];
        return current().hosts.container(`c${k}-${round}`, current().netns(k), link, addresses);
      }),
    );
    return first;
  };

  const ping = (from: string, ...options: string[]): Promise<number> =>
    current().hosts.ping(from, own(2).ipv4!, ...options);

  /** Of those that are to be answered: a handshake whose first message was late is begun again after five seconds. */
  const answered = (from: string, ...options: string[]): Promise<number> =>
    ping(from, "-W", "10", ...options);

  /** What is sent, so that it is known again in clear. */
  const marked = (): { mark: Buffer; options: string[] } => {
    const mark = newMarker();
    return { mark, options: ["-p", mark.toString("hex")] };
  };

  test.each([4, 6] as const)(
    "over IPv%i a full-size packet passes, one byte more does not, and nothing is in clear",
    async (family) => {
      await tunnel(1, [onFamily(2, family)], family);
      await tunnel(2, [onFamily(1, family)], family);
      const first = await containers(family);
      const { mark, options } = marked();
      const size = largestWireguardMtuBytes(family, 1500) - 28;
      const frames = await captured(current().hosts.directory, 1, async () => {
        expect(await answered(first, "-M", "do", "-s", String(size), ...options)).toBe(3);
        expect(await ping(first, "-M", "do", "-s", String(size + 1), ...options)).toBe(0);
      });
      expect(containing(frames, mark)).toBe(0);
      expect(onPort(frames, DEFAULT_PORTS.vxlanWireguard)).toEqual([]);
      expect(onPort(frames, PORT).length).toBeGreaterThanOrEqual(6);
      expect(frames.filter(isFragment)).toEqual([]);
      // On the wire the largest is as large as it can be.
      expect(Math.max(...frames.map(({ length }) => length))).toBe(1514);
    },
  );

  test("the same packets in a network in clear are seen: the capture would see a leak", async () => {
    const first = await containers(4, true);
    const { mark, options } = marked();
    const frames = await captured(current().hosts.directory, 1, async () => {
      expect(await answered(first, ...options)).toBe(3);
    });
    expect(containing(frames, mark)).toBe(6);
    expect(onPort(frames, DEFAULT_PORTS.vxlanPlain).length).toBeGreaterThanOrEqual(6);
  });

  test("the first packet between two hosts costs one round trip more than the second", async () => {
    await tunnel(1, [peer(2)]);
    await tunnel(2, [peer(1)]);
    const first = await containers();
    const frames = await captured(current().hosts.directory, 1, async () => {
      expect(await answered(first, "-c", "1")).toBe(1);
    });
    // Then data both ways.
    const types = frames.map(wireguardType).filter(Boolean);
    expect(types.slice(0, 4)).toEqual([INITIATION, RESPONSE, TRANSPORT_DATA, TRANSPORT_DATA]);
  });

  test("a packet arrives once, however often it is sent; a handshake that is sent again opens no session", async () => {
    await tunnel(1, [peer(2)]);
    await tunnel(2, [peer(1)]);
    const first = await containers();
    const { hosts } = current();
    const link = join(hosts.directory, "switch");
    const recorded = async (type: number, work: () => Promise<void>): Promise<Buffer> => {
      const frames = await captured(hosts.directory, 1, work);
      const frame = frames.find((each) => wireguardType(each) === type)!;
      // None (RFC 768): the sender left its checksum to a link that does not make one.
      frame.writeUInt16BE(0, UDP_CHECKSUM_AT);
      return frame;
    };
    const initiation = await recorded(INITIATION, async () => {
      expect(await answered(first, "-c", "1")).toBe(1);
    });
    const file = join(hosts.directory, "arrivals");
    const arrivals = await Capture.start(join(hosts.directory, `c2-${round}`), "eth0", file);
    const arrived = (what: Buffer): number => containing(arrivals.frames(), what);
    try {
      const { mark, options } = marked();
      // Kept back by the switch, so that it is the recorded one that arrives first.
      const packet = await recorded(TRANSPORT_DATA, async () => {
        hosts.in(link, "bridge link set dev p2 state 0");
        expect(await ping(first, "-c", "1", ...options)).toBe(0);
        hosts.in(link, "bridge link set dev p2 state 3");
      });
      hosts.deliver(2, packet);
      // With its answer.
      await eventually(20_000, "the packet", async () => expect(arrived(mark)).toBe(2));
      const { lastHandshakeMs } = (await current().tunnel(2).read())!.peers[0]!;
      const later = marked();
      const frames = await captured(hosts.directory, 2, async () => {
        hosts.deliver(2, packet);
        hosts.deliver(2, initiation);
        expect(await answered(first, "-c", "1", ...later.options)).toBe(1);
      });
      const handshakes = frames
        .map(wireguardType)
        .filter((type) => type === INITIATION || type === RESPONSE);
      // No answer to it.
      expect(handshakes).toEqual([INITIATION]);
      expect([arrived(mark), arrived(later.mark)]).toEqual([2, 2]);
      expect((await current().tunnel(2).read())!.peers[0]).toMatchObject({ lastHandshakeMs });
    } finally {
      await arrivals.stop();
    }
  });

  test("a deleted device is silence, and is put back under the networks that stand", async () => {
    await tunnel(1, [peer(2)]);
    await tunnel(2, [peer(1)]);
    const first = await containers();
    expect(await answered(first)).toBe(3);
    const { mark, options } = marked();
    const frames = await captured(current().hosts.directory, 1, async () => {
      current().lose(1);
      expect(await ping(first, ...options)).toBe(0);
    });
    expect(containing(frames, mark)).toBe(0);
    expect(onPort(frames, DEFAULT_PORTS.vxlanWireguard)).toEqual([]);
    await tunnel(1, [peer(2)]);
    await eventually(20_000, "an answer", async () => expect(await ping(first)).toBe(3));
    expect(
      plan(new HeldNetwork(await kernels.get(1)!.read(app.id)), present(network(1, 4, false))),
    ).toEqual([]);
  });

  test("a host whose key is not there gets nothing, not even an attempt", async () => {
    await tunnel(1, []);
    await tunnel(2, [peer(1)]);
    const first = await containers();
    const { mark, options } = marked();
    const frames = await captured(current().hosts.directory, 1, async () => {
      expect(await ping(first, ...options)).toBe(0);
    });
    expect(containing(frames, mark)).toBe(0);
    const ports = [PORT, DEFAULT_PORTS.vxlanWireguard, DEFAULT_PORTS.vxlanPlain];
    expect(ports.flatMap((port) => onPort(frames, port))).toEqual([]);
  });

  test("a member speaks for its own containers, and for no other host's", async () => {
    await tunnel(1, [peer(2)]);
    await tunnel(2, [peer(1)]);
    const first = await containers();
    const guards = new NftGuards({ hostNetns: current().tunnel(2).transportNetns });
    const { vxlanPlain, vxlanWireguard, vxlanIpsec } = DEFAULT_PORTS;
    const vtep = vtepOf(1);
    const { mac, ipv4 } = own(1);
    const speaker = { vtep, vni: app.vni, members: [{ mac, ips: [ipv4!] }] };
    const guarded = (speakers: (typeof speaker)[]): Promise<void> =>
      guards.set(
        transportGuards(
          {
            underlayFamily: 4,
            classPorts: { plain: vxlanPlain, wireguard: vxlanWireguard, ipsec: vxlanIpsec },
            meshPorts: [7947, 7952],
            ipsec: false,
            exposed: [],
            sealed: [],
            vteps: [vtep],
            hosting: [{ vtep, vni: app.vni }],
            speakers,
          },
          { desired: wanted(2, [peer(1)]) },
        ),
      );
    try {
      await guarded([speaker]);
      expect(await answered(first)).toBe(3);
      const other = { mac: endpoint(3, 5).mac, ips: [endpoint(3, 5).ipv4!] };
      await guarded([{ ...speaker, members: [other] }]);
      expect(await ping(first)).toBe(0);
      expect((await guards.counters())["notSpeaker"]).toBeGreaterThanOrEqual(3);
    } finally {
      await guards.remove();
      await guards.close();
    }
  });

  test("other peers' new keys and a new agent cost a running flow no packet", async () => {
    const third = (n: number): WireguardPeer =>
      peer(3, { publicKey: wireguardPublicKey(privateKey(3, n)) });
    await tunnel(1, [peer(2), third(0)]);
    await tunnel(2, [peer(1)]);
    const first = await containers();
    expect(await answered(first)).toBe(3);
    const rounds = Array.from({ length: 5 }, (_, n) => async () => {
      await tunnel(1, [peer(2), third(n + 1)]);
      await current().restart(1);
    });
    const last = (): Promise<void> => tunnel(1, [peer(2)]);
    const lost = await lostDuring(first, own(2).ipv4!, [...rounds, last]);
    expect(lost).toBe(0);
  });

  test("a host's own new key, of which the other hears a little later, costs a running flow no packet", async () => {
    await tunnel(1, [peer(2)]);
    await tunnel(2, [peer(1)]);
    const first = await containers();
    const renewed = (n: number): WireguardPeer =>
      peer(1, { publicKey: wireguardPublicKey(privateKey(1, n)) });
    const mtuBytes = 1500 - WIREGUARD_OVERHEAD_BYTES[4];
    const rounds = [1, 2, 3, 4, 5].map((n) => async () => {
      await current()
        .tunnel(1)
        .set(privateKey(1, n), wanted(1, [peer(2)], { mtuBytes }));
      // What the mesh needs; meanwhile the device keeps what it is to send. Less, and on a busy machine an answer under
      // the session of before is still in the other's queue, which goes with the old key.
      await delay(300);
      await tunnel(2, [renewed(n)]);
    });
    const lost = await lostDuring(first, own(2).ipv4!, rounds);
    expect(lost).toBe(0);
    expect((await current().tunnel(2).read())!.peers.map((held) => held.publicKey)).toEqual([
      renewed(5).publicKey,
    ]);
  });

  test("a host behind NAT dials out; the way back stays while nobody says otherwise", async () => {
    const nat = (rule: string): string => current().hosts.in(current().netns(2), `nft add ${rule}`);
    nat("table ip nat");
    nat("chain ip nat out { type nat hook postrouting priority 100 ; }");
    nat(`rule ip nat out udp sport ${PORT} snat to ${vtepOf(2)}:40000`);
    nat("chain ip nat guard { type filter hook input priority 0 ; }");
    nat(`rule ip nat guard udp dport ${PORT} ct state new drop`);
    try {
      await tunnel(1, [peer(2)]);
      await tunnel(2, [peer(1, { keepaliveSeconds: 25 })]);
      const endpoint = async () => (await current().tunnel(1).read())?.peers[0]?.endpoint;
      const mapped = { ip: vtepOf(2), port: 40_000 };
      await eventually(20_000, "a way back", async () => expect(await endpoint()).toEqual(mapped));
      await eventually(20_000, "an answer", async () =>
        expect(await current().reaches(1, 2)).toBe(true),
      );
      await tunnel(1, [peer(2)]);
      expect(await endpoint()).toEqual(mapped);
      await eventually(20_000, "an answer", async () =>
        expect(await current().reaches(1, 2)).toBe(true),
      );
    } finally {
      current().hosts.in(current().netns(2), "nft delete table ip nat");
    }
  });

  test("a port that another program has is named, and had when it is free", async () => {
    const other = spawn("nsenter", [
      `--net=${current().netns(1)}`,
      "socat",
      `UDP4-LISTEN:${PORT}`,
      "STDOUT",
    ]);
    const ended = new Promise((resolve) => other.once("close", resolve));
    try {
      await eventually(10_000, "the other program", async () =>
        expect(current().hosts.in(current().netns(1), "ss -lunH")).toContain(`:${PORT}`),
      );
      await expect(tunnel(1, [peer(2)])).rejects.toMatchObject({ code: "PORT_TAKEN" });
    } finally {
      other.kill();
      await ended;
    }
    await tunnel(1, [peer(2)]);
    await tunnel(2, [peer(1)]);
    await eventually(20_000, "an answer", async () =>
      expect(await current().reaches(1, 2)).toBe(true),
    );
  });
}
