import { OverlayError } from "../../shared/errors.ts";
import { hostCidr, type Ip } from "../../shared/ip.ts";
import {
  type DesiredWireguard,
  type PeerChange,
  planPeers,
  type WireguardEndpoint,
  type WireguardKey,
  type WireguardPeerState,
} from "../../agent/core/keys/wireguard.ts";
import type { WireguardState, WireguardTunnel } from "../../agent/encryption/wireguard/port.ts";
import type { Secret } from "../../agent/encryption/secret.ts";
import { wireguardPublicKey } from "../../agent/encryption/wireguard/keys.ts";

type FakeDevice = Omit<WireguardState, "peers"> & {
  readonly peers: Map<WireguardKey, WireguardPeerState>;
};

/** Hosts and their WireGuard devices in memory, by the host's address; they outlive the agents. */
export class FakeUnderlay {
  readonly devices = new Map<Ip, FakeDevice>();
  /** Addresses inside to which no echo comes through, though the device has all it should. */
  readonly silent = new Set<Ip>();

  /** One packet from a host into its tunnel: whether the other end takes it. */
  send(from: Ip, to: Ip, wallMs: number): boolean {
    const device = this.devices.get(from);
    const peer = peerOf(device, to);
    const other = this.devices.get(peer?.endpoint?.ip ?? ("" as Ip));
    if (device?.inside === undefined || peer?.endpoint === undefined || other === undefined)
      return false;
    const heard = peerOf(other, device.inside);
    const theirs =
      other.publicKey === peer.publicKey &&
      other.listenPort === peer.endpoint.port &&
      heard !== undefined &&
      heard.publicKey === device.publicKey;
    if (!theirs) return false;
    const handshake = (held: WireguardPeerState): number => held.lastHandshakeMs ?? wallMs;
    device.peers.set(peer.publicKey, {
      ...peer,
      lastHandshakeMs: handshake(peer),
      txBytes: peer.txBytes + 1,
    });
    other.peers.set(heard.publicKey, {
      ...heard,
      endpoint: { ip: from, port: device.listenPort },
      lastHandshakeMs: handshake(heard),
      rxBytes: heard.rxBytes + 1,
    });
    return true;
  }
}

/** The tunnel in memory: the fast twin of WireGuard in tests and in the simulation. */
export class FakeWireguard implements WireguardTunnel {
  readonly transportNetns = "wireguard";
  readonly #underlay: FakeUnderlay;
  readonly #address: Ip;
  readonly #wallMs: () => number;
  readonly #listeners: (() => void)[] = [];
  #asked: ReadonlyMap<WireguardKey, WireguardEndpoint> = new Map();

  constructor(underlay: FakeUnderlay, address: Ip, wallMs: () => number) {
    this.#underlay = underlay;
    this.#address = address;
    this.#wallMs = wallMs;
  }

  set(privateKey: Secret, desired: DesiredWireguard): Promise<void> {
    const held = this.#device();
    const publicKey = wireguardPublicKey(privateKey);
    const peers = new Map(
      // Another key of ours ends all sessions.
      [...(held?.peers ?? [])].map(([key, peer]) => [
        key,
        held?.publicKey === publicKey ? peer : { ...peer, lastHandshakeMs: undefined },
      ]),
    );
    for (const change of planPeers([...peers.values()], desired, this.#asked, this.#wallMs()))
      apply(peers, change);
    this.#asked = new Map(desired.peers.map((peer) => [peer.publicKey, peer.endpoint]));
    const { listenPort, ownInside, mtuBytes } = desired;
    this.#underlay.devices.set(this.#address, {
      by: "kernel",
      publicKey,
      listenPort,
      inside: ownInside,
      mtuBytes,
      up: true,
      peers,
    });
    return Promise.resolve();
  }

  read(): Promise<WireguardState | undefined> {
    const held = this.#device();
    return Promise.resolve(held && { ...held, peers: [...held.peers.values()] });
  }

  faults(privateKey: Secret, desired: DesiredWireguard): Promise<string[]> {
    const held = this.#device();
    if (held === undefined) return Promise.resolve(["its device is missing"]);
    const changes = planPeers([...held.peers.values()], desired, this.#asked, this.#wallMs());
    return Promise.resolve([
      ...(held.publicKey === wireguardPublicKey(privateKey) ? [] : ["its key is another one"]),
      ...changes.map(({ kind, publicKey }) => `the peer ${publicKey}: ${kind}`),
    ]);
  }

  echo(inside: Ip): Promise<number | undefined> {
    const answers =
      !this.#underlay.silent.has(inside) &&
      this.#underlay.send(this.#address, inside, this.#wallMs());
    return Promise.resolve(answers ? 1 : undefined);
  }

  onLoss(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** As when someone runs `ip link del`. */
  loseDevice(): void {
    this.#underlay.devices.delete(this.#address);
    for (const listener of this.#listeners) listener();
  }

  remove(): Promise<void> {
    this.#underlay.devices.delete(this.#address);
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #device(): FakeDevice | undefined {
    return this.#underlay.devices.get(this.#address);
  }
}

function apply(peers: Map<WireguardKey, WireguardPeerState>, change: PeerChange): void {
  const { publicKey } = change;
  if (change.kind === "remove") {
    peers.delete(publicKey);
    return;
  }
  const before = peers.get(publicKey);
  if (change.kind === "update" && before === undefined)
    throw new OverlayError({ code: "NETLINK", errno: "ENOENT", message: "no such peer" });
  const { endpoint, inside, keepaliveSeconds } = change;
  const allowed = inside === undefined ? (before?.allowed ?? []) : [hostCidr(inside)];
  // An address belongs to one peer at a time.
  for (const [key, peer] of peers)
    peers.set(key, {
      ...peer,
      allowed: peer.allowed.filter((prefix) => !allowed.includes(prefix)),
    });
  peers.set(publicKey, {
    publicKey,
    endpoint: endpoint ?? before?.endpoint,
    allowed,
    keepaliveSeconds: keepaliveSeconds ?? before?.keepaliveSeconds ?? 0,
    lastHandshakeMs: before?.lastHandshakeMs,
    rxBytes: before?.rxBytes ?? 0,
    txBytes: before?.txBytes ?? 0,
  });
}

function peerOf(device: FakeDevice | undefined, inside: Ip): WireguardPeerState | undefined {
  const peers = [...(device?.peers.values() ?? [])];
  return peers.find(({ allowed }) => allowed.includes(hostCidr(inside)));
}
