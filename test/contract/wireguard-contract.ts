import { expect, test } from "vitest";
import type { DesiredWireguard, WireguardPeer } from "../../agent/core/keys/wireguard.ts";
import type { WireguardState, WireguardTunnel } from "../../agent/encryption/wireguard/port.ts";
import { Secret } from "../../agent/encryption/secret.ts";
import { wireguardPublicKey } from "../../agent/encryption/wireguard/keys.ts";
import { hostCidr, Ip } from "../../shared/ip.ts";
import { vtepOf } from "../support/cluster.ts";
import { eventually } from "../support/lab-host.ts";

/** Three hosts, of any kind: host k has the underlay address 198.51.100.k. */
export interface WireguardHosts {
  tunnel(k: number): WireguardTunnel;
  /** The agent of host k ends, and another one starts. */
  restart(k: number): Promise<void>;
  /** Somebody deletes the device. */
  lose(k: number): void;
  /** One packet from host to host through the tunnel, and its answer. */
  reaches(from: number, to: number): Promise<boolean>;
}

export const PORT = 7951;
export const MTU_BYTES = 1440;

/** Key `n` of host k: hosts change theirs. */
export function privateKey(k: number, n = 0): Secret {
  return new Secret(Buffer.alloc(32, 16 * k + n + 1));
}

export function insideOf(k: number): Ip {
  return Ip.parse(`198.19.${k >> 8}.${k & 255}`);
}

export function peer(k: number, changes: Partial<WireguardPeer> = {}): WireguardPeer {
  return {
    publicKey: changes.publicKey ?? wireguardPublicKey(privateKey(k)),
    endpoint: changes.endpoint ?? { ip: vtepOf(k), port: PORT },
    inside: changes.inside ?? insideOf(k),
    keepaliveSeconds: changes.keepaliveSeconds ?? 0,
  };
}

/** Host k with these peers. */
export function wanted(
  k: number,
  peers: readonly WireguardPeer[],
  changes: Partial<DesiredWireguard> = {},
): DesiredWireguard {
  return {
    listenPort: PORT,
    ownInside: insideOf(k),
    prefixLength: 16,
    mtuBytes: MTU_BYTES,
    peers,
    undecided: [],
    ...changes,
  };
}

/** What every WireGuard does; `current` is fresh for each test. */
export function wireguardContract(current: () => WireguardHosts): void {
  const set = (k: number, desired: DesiredWireguard, key = privateKey(k)): Promise<void> =>
    current().tunnel(k).set(key, desired);
  const read = async (k: number): Promise<WireguardState> => (await current().tunnel(k).read())!;
  /** Without counters: keepalives come by themselves. */
  const settled = async (k: number) => {
    const { peers, ...device } = await read(k);
    return { ...device, peers: peers.map((held) => ({ ...held, rxBytes: 0, txBytes: 0 })) };
  };
  const heldPeer = async (k: number, other: WireguardPeer) =>
    (await read(k)).peers.find(({ publicKey }) => publicKey === other.publicKey);
  const handshake = async (k: number, other: WireguardPeer) =>
    (await heldPeer(k, other))?.lastHandshakeMs;
  const reaches = (from: number, to: number): Promise<boolean> => current().reaches(from, to);
  /** A handshake whose first message was late is begun again after five seconds (whitepaper, 6.4). */
  const answers = (from: number, to: number): Promise<void> =>
    eventually(20_000, `an answer of ${to}`, async () =>
      expect(await reaches(from, to)).toBe(true),
    );
  const connect = async (...ks: number[]): Promise<void> => {
    for (const k of ks) {
      const others = ks.filter((other) => other !== k);
      await set(
        k,
        wanted(
          k,
          others.map((other) => peer(other)),
        ),
      );
    }
  };

  test("nothing, then a device, then nothing", async () => {
    expect(await current().tunnel(1).read()).toBeUndefined();
    await set(1, wanted(1, [peer(2)]));
    expect(await read(1)).toMatchObject({
      publicKey: wireguardPublicKey(privateKey(1)),
      listenPort: PORT,
      inside: insideOf(1),
      mtuBytes: MTU_BYTES,
      up: true,
      peers: [
        {
          publicKey: peer(2).publicKey,
          endpoint: { ip: vtepOf(2), port: PORT },
          allowed: [hostCidr(insideOf(2))],
          keepaliveSeconds: 0,
          lastHandshakeMs: undefined,
        },
      ],
    });
    for (let round = 0; round < 2; round++) await current().tunnel(1).remove();
    expect(await current().tunnel(1).read()).toBeUndefined();
  });

  test("hosts that have each other's keys reach each other; who is only known to one does not", async () => {
    await connect(1, 2);
    await set(3, wanted(3, [peer(1)]));
    await answers(1, 2);
    expect(await reaches(3, 1)).toBe(false);
    expect(await reaches(1, 3)).toBe(false);
    const { lastHandshakeMs, rxBytes, txBytes } = (await heldPeer(1, peer(2)))!;
    expect(lastHandshakeMs).toBeGreaterThan(0);
    expect(rxBytes).toBeGreaterThan(0);
    expect(txBytes).toBeGreaterThan(0);
  });

  test("said twice it is as once, and its sessions live on; so they do in another agent", async () => {
    await connect(1, 2);
    await answers(1, 2);
    const before = await settled(1);
    await connect(1, 2);
    expect(await settled(1)).toEqual(before);
    await current().restart(1);
    expect(await settled(1)).toEqual(before);
    await connect(1, 2);
    expect(await settled(1)).toEqual(before);
    await answers(2, 1);
    expect(await settled(1)).toEqual(before);
  });

  test("a peer with another key takes the place of the old one; the others' sessions live on", async () => {
    await connect(1, 2, 3);
    await answers(1, 2);
    await answers(1, 3);
    const before = await handshake(1, peer(3));
    const renewed = peer(2, { publicKey: wireguardPublicKey(privateKey(2, 1)) });
    await set(2, wanted(2, [peer(1), peer(3)]), privateKey(2, 1));
    expect((await read(2)).publicKey).toBe(renewed.publicKey);
    await set(1, wanted(1, [renewed, peer(3)]));
    expect(await heldPeer(1, peer(2))).toBeUndefined();
    await answers(1, 2);
    expect(await handshake(1, peer(3))).toBe(before);
    await answers(1, 3);
  });

  test("where a peer is heard from stays, until the host is said to be elsewhere", async () => {
    const elsewhere = peer(2, { endpoint: { ip: vtepOf(2), port: PORT + 1 } });
    await set(1, wanted(1, [elsewhere]));
    await set(2, wanted(2, [peer(1)]));
    await answers(2, 1);
    const learnt = { ip: vtepOf(2), port: PORT };
    expect((await heldPeer(1, elsewhere))?.endpoint).toEqual(learnt);
    await set(1, wanted(1, [elsewhere]));
    expect((await heldPeer(1, elsewhere))?.endpoint).toEqual(learnt);
    await current().restart(1);
    await set(1, wanted(1, [elsewhere]));
    expect((await heldPeer(1, elsewhere))?.endpoint).toEqual(learnt);
    const moved = { ip: vtepOf(3), port: PORT };
    await set(1, wanted(1, [peer(2, { endpoint: moved })]));
    expect((await heldPeer(1, elsewhere))?.endpoint).toEqual(moved);
  });

  test("a peer that is taken away is silent; one that is undecided stays as it is", async () => {
    await connect(1, 2, 3);
    await answers(1, 2);
    await answers(1, 3);
    const before = await heldPeer(1, peer(3));
    await set(1, wanted(1, [], { undecided: [insideOf(3)] }));
    expect((await read(1)).peers.map(({ publicKey }) => publicKey)).toEqual([peer(3).publicKey]);
    expect(await reaches(1, 2)).toBe(false);
    expect((await heldPeer(1, peer(3)))?.lastHandshakeMs).toBe(before?.lastHandshakeMs);
    await set(1, wanted(1, []));
    expect((await read(1)).peers).toEqual([]);
  });

  test("another address, keepalive or size is set in place", async () => {
    await connect(1, 2);
    const changes = { inside: insideOf(9), keepaliveSeconds: 25 };
    await set(1, wanted(1, [peer(2, changes)], { ownInside: insideOf(8), mtuBytes: 1380 }));
    expect(await read(1)).toMatchObject({ inside: insideOf(8), mtuBytes: 1380, up: true });
    expect(await heldPeer(1, peer(2))).toMatchObject({
      allowed: [hostCidr(insideOf(9))],
      keepaliveSeconds: 25,
    });
  });

  test("a device that is lost is told of, and put back by the next word", async () => {
    await connect(1, 2);
    await answers(1, 2);
    const lost = new Promise<void>((resolve) => current().tunnel(1).onLoss(resolve));
    current().lose(1);
    await lost;
    expect(await current().tunnel(1).read()).toBeUndefined();
    await set(1, wanted(1, [peer(2)]));
    await answers(1, 2);
  });

  test("a peer's kernel answers an echo as large as the tunnel carries; without a device nobody does", async () => {
    const echo = (to: number, timeoutMs = 2000) =>
      current().tunnel(1).echo(insideOf(to), MTU_BYTES, timeoutMs);
    expect(await echo(2)).toBeUndefined();
    await connect(1, 2);
    expect(await echo(2, 10_000)).toBeGreaterThan(0);
    expect(await echo(3, 300)).toBeUndefined();
    current().lose(1);
    expect(await echo(2, 300)).toBeUndefined();
    await set(1, wanted(1, [peer(2)]));
    await eventually(20_000, "an answer", async () => expect(await echo(2)).toBeGreaterThan(0));
  });

  test("a thousand peers, and then three of them", async () => {
    const many = Array.from({ length: 1000 }, (_, i) =>
      peer(i + 2, {
        publicKey: wireguardPublicKey(new Secret(Buffer.alloc(32, `host ${i + 1000}`))),
        endpoint: { ip: Ip.parse(`198.51.${i >> 8}.${i & 255}`), port: PORT },
      }),
    );
    const keysOf = async () => (await read(1)).peers.map(({ publicKey }) => publicKey).toSorted();
    await set(1, wanted(1, many));
    expect(await keysOf()).toEqual(many.map(({ publicKey }) => publicKey).toSorted());
    const few = many.slice(500, 503);
    await set(1, wanted(1, few));
    expect(await keysOf()).toEqual(few.map(({ publicKey }) => publicKey).toSorted());
  });

  test("what is read holds no private key", async () => {
    await set(1, wanted(1, [peer(2)]));
    const secret = privateKey(1).reveal();
    const said = JSON.stringify([await read(1), current().tunnel(1), privateKey(1)]);
    for (const form of ["hex", "base64", "base64url"] as const)
      expect(said).not.toContain(secret.toString(form).slice(0, 40));
  });
}
