import { z } from "zod";
import type { ClusterState, NodeRecord } from "../../../shared/cluster-state.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { type Cidr, hostCidr, type Ip, prefixLength } from "../../../shared/ip.ts";
import { VXLAN_OVERHEAD_BYTES } from "../../../shared/vxlan.ts";
import { insideAddress, WIREGUARD_OVERHEAD_BYTES } from "../../../shared/wireguard.ts";
import type { DesiredGuards } from "../data-plane/kernel-state.ts";
import type { FormerVteps } from "../data-plane/vtep-moves.ts";
import { admittedHosts, isBehindNat } from "../tables/admitted.ts";
import type { Tables } from "../tables/tables.ts";

/** A Curve25519 public key as wg(8) writes it: 32 bytes in base64. */
export const WireguardKey = z
  .string()
  .regex(/^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$/, "not a WireGuard key")
  .brand<"WireguardKey">();
export type WireguardKey = z.infer<typeof WireguardKey>;

export interface WireguardEndpoint {
  readonly ip: Ip;
  readonly port: number;
}

export interface WireguardPeer {
  readonly publicKey: WireguardKey;
  /** Where it is dialled until it is heard from elsewhere. */
  readonly endpoint: WireguardEndpoint;
  /** The one address it may speak from. */
  readonly inside: Ip;
  /** 0: only when there is something to send. */
  readonly keepaliveSeconds: number;
  /** Addresses that it had before: a device that has learnt one of these is told the endpoint again. */
  readonly former?: readonly Ip[];
}

/** All that the host's WireGuard device should be; a pure function of the tables. */
export interface DesiredWireguard {
  readonly listenPort: number;
  readonly ownInside: Ip;
  readonly prefixLength: number;
  /** Of the device: what the underlay leaves, or more where a network needs it. */
  readonly mtuBytes: number;
  readonly peers: readonly WireguardPeer[];
  /** Hosts that are admitted and have not said their key yet: what stands for them stays. */
  readonly undecided: readonly Ip[];
}

/** A peer as the device has it. */
export interface WireguardPeerState {
  readonly publicKey: WireguardKey;
  /** Learnt from its packets, or as written; undefined: neither yet. */
  readonly endpoint: WireguardEndpoint | undefined;
  /** What it may speak from; ours have one address each. */
  readonly allowed: readonly Cidr[];
  readonly keepaliveSeconds: number;
  /** Wall clock; undefined: never. */
  readonly lastHandshakeMs: number | undefined;
  readonly rxBytes: number;
  readonly txBytes: number;
}

/** Why an admitted host is no peer; shown in `status`. */
export interface WithoutTunnel {
  readonly node: NodeId;
  /** `unheard`: its host document is not here yet. `key-taken`: an older member has said the key. */
  readonly reason: "unheard" | "no-key" | "bad-key" | "key-taken";
}

export interface WireguardReading {
  readonly desired: DesiredWireguard;
  readonly peersOf: ReadonlyMap<NodeId, WireguardPeer>;
  readonly without: readonly WithoutTunnel[];
}

/** What a NAT keeps of a silent flow is rarely less than half a minute (wg(8), PersistentKeepalive). */
const KEEPALIVE_SECONDS = 25;

/**
 * Every admitted host with a key is a peer, before any container needs it: a first handshake that
 * comes too early is lost, and tried again only after five seconds. Undefined: this host is not in
 * the state.
 */
export function readWireguard(
  tables: Tables,
  self: NodeId,
  former: FormerVteps = new Map(),
): WireguardReading | undefined {
  const { state } = tables;
  const own = state?.nodes.find(({ id }) => id === self);
  if (state === undefined || own === undefined) return undefined;
  const { wireguardSubnet, ports } = state.settings;
  const inside = (index: number): Ip => insideAddress(wireguardSubnet, index);
  const taken = new Set([tables.hosts.get(self)?.wireguardKey]);
  const peersOf = new Map<NodeId, WireguardPeer>();
  const without: WithoutTunnel[] = [];
  const undecided: Ip[] = [];
  const keepaliveSeconds = isBehindNat(own) ? KEEPALIVE_SECONDS : 0;
  // Oldest first: a newer member cannot take an older one's key, and so its path, by claiming it.
  for (const { id, index, vtep } of admittedHosts(state).toSorted((a, b) => a.index - b.index)) {
    if (id === self) continue;
    const document = tables.hosts.get(id);
    const key = WireguardKey.safeParse(document?.wireguardKey);
    if (document === undefined) undecided.push(inside(index));
    if (key.success && !taken.has(key.data)) {
      taken.add(key.data);
      peersOf.set(id, {
        publicKey: key.data,
        endpoint: { ip: vtep, port: ports.wireguard },
        inside: inside(index),
        keepaliveSeconds,
        ...(former.has(id) ? { former: former.get(id)! } : {}),
      });
    } else without.push({ node: id, reason: reasonOf(document, key.success) });
  }
  return {
    desired: {
      listenPort: ports.wireguard,
      ownInside: inside(own.index),
      prefixLength: prefixLength(wireguardSubnet),
      mtuBytes: deviceMtuBytes(state, own),
      peers: [...peersOf.values()],
      undecided,
    },
    peersOf,
    without,
  };
}

/**
 * WireGuard's packets may go in pieces, those in the tunnel may not: a network that was made when the underlay was
 * larger keeps its path.
 */
function deviceMtuBytes(
  { settings: { underlayFamily }, networks }: ClusterState,
  { underlayMtuBytes }: NodeRecord,
): number {
  const carried = networks
    .filter(({ encryption }) => encryption === "wireguard")
    .map(({ mtuBytes }) => mtuBytes + VXLAN_OVERHEAD_BYTES[4]);
  return Math.max(underlayMtuBytes - WIREGUARD_OVERHEAD_BYTES[underlayFamily], ...carried);
}

function reasonOf(
  document: { wireguardKey?: string | undefined } | undefined,
  wellFormed: boolean,
): WithoutTunnel["reason"] {
  if (document === undefined) return "unheard";
  if (document.wireguardKey === undefined) return "no-key";
  return wellFormed ? "key-taken" : "bad-key";
}

/**
 * Where the containers of each host are reached in WireGuard networks: hosts whose key and address
 * the device holds, and no other. No key, no path.
 */
export function wireguardPaths(
  { peersOf }: WireguardReading,
  held: readonly WireguardPeerState[],
): Map<NodeId, Ip> {
  const allowed = new Map(held.map((peer) => [peer.publicKey, peer.allowed]));
  return new Map(
    [...peersOf].flatMap(([node, { publicKey, inside }]) =>
      allowed.get(publicKey)?.includes(hostCidr(inside)) === true ? [[node, inside]] : [],
    ),
  );
}

/**
 * The host's guards as the transport namespace has them: by inside addresses, which WireGuard proves,
 * and with the class's port in the place of the plain one. No container has a way out through it.
 */
export function transportGuards(
  guards: DesiredGuards,
  { desired }: Pick<WireguardReading, "desired">,
): DesiredGuards {
  const insides = new Map(desired.peers.map(({ endpoint, inside }) => [endpoint.ip, inside]));
  const moved = <T extends { readonly vtep: Ip }>(entry: T): T[] => {
    const vtep = insides.get(entry.vtep);
    return vtep === undefined ? [] : [{ ...entry, vtep }];
  };
  const { plain, wireguard, ipsec } = guards.classPorts;
  return {
    ...guards,
    underlayFamily: 4,
    classPorts: { plain: wireguard, wireguard: plain, ipsec },
    ipsec: false,
    vteps: guards.vteps.flatMap((vtep) => insides.get(vtep) ?? []),
    hosting: guards.hosting.flatMap(moved),
    speakers: guards.speakers.flatMap(moved),
    exposed: [],
    sealed: [],
  };
}

/** One peer of the device, taken away or written; of `update` only what is named. */
export type PeerChange =
  | { readonly kind: "remove"; readonly publicKey: WireguardKey }
  | ({ readonly kind: "add" } & WireguardPeer)
  | ({ readonly kind: "update"; readonly publicKey: WireguardKey } & Partial<WireguardPeer>);

/** A session is dead after 180 s; a new one is tried for 90 s (WireGuard whitepaper, section 6.1). */
const SESSION_OVER_MS = 270_000;

/**
 * The difference, peers that go first: an address belongs to one peer at a time. An endpoint that
 * the device has learnt stays while its session lives, unless the desired one is not what was `asked`
 * for before, or what it has learnt is where the host was before: then the host has moved.
 */
export function planPeers(
  held: readonly WireguardPeerState[],
  { peers, undecided }: Pick<DesiredWireguard, "peers" | "undecided">,
  asked: ReadonlyMap<WireguardKey, WireguardEndpoint>,
  wallMs: number,
): PeerChange[] {
  const wanted = new Set(peers.map(({ publicKey }) => publicKey));
  const open = new Set(undecided.map(hostCidr));
  const isUndecided = ({ allowed }: WireguardPeerState): boolean =>
    allowed.length > 0 && allowed.every((prefix) => open.has(prefix));
  const removals = held
    .filter((peer) => !wanted.has(peer.publicKey) && !isUndecided(peer))
    .map(({ publicKey }): PeerChange => ({ kind: "remove", publicKey }));
  const present = new Map(held.map((peer) => [peer.publicKey, peer]));
  const puts = peers.flatMap((peer): PeerChange[] => {
    const now = present.get(peer.publicKey);
    if (now === undefined) return added(peer, held);
    const { publicKey, endpoint, inside, keepaliveSeconds } = peer;
    const ageMs = wallMs - (now.lastHandshakeMs ?? -Infinity);
    // One in the future says that the clock was ahead, and nothing of how old the session is.
    const lives = ageMs >= 0 && ageMs < SESSION_OVER_MS;
    const before = asked.get(publicKey);
    // Of both addresses, while it has both, packets come: after the last of the former one it would stay there.
    const isBehind = now.endpoint !== undefined && peer.former?.includes(now.endpoint.ip) === true;
    const moved = isBehind || (before !== undefined && !sameEndpoint(before, endpoint));
    const change = {
      ...(sameEndpoint(now.endpoint, endpoint) || (lives && !moved) ? {} : { endpoint }),
      ...(now.allowed.length === 1 && now.allowed[0] === hostCidr(inside) ? {} : { inside }),
      ...(now.keepaliveSeconds === keepaliveSeconds ? {} : { keepaliveSeconds }),
    };
    return Object.keys(change).length === 0 ? [] : [{ kind: "update", publicKey, ...change }];
  });
  return [...removals, ...puts];
}

/**
 * A host that has another key than before waits for us: what it sends stays in its device until there is a session,
 * and its own first handshake came before we knew the key. A device begins one when it is told to keep a peer alive.
 */
function added(peer: WireguardPeer, held: readonly WireguardPeerState[]): PeerChange[] {
  const address = hostCidr(peer.inside);
  const isRenewed = held.some(({ allowed }) => allowed.includes(address));
  if (!isRenewed || peer.keepaliveSeconds > 0) return [{ kind: "add", ...peer }];
  const { publicKey, keepaliveSeconds } = peer;
  return [
    { kind: "add", ...peer, keepaliveSeconds: KEEPALIVE_SECONDS },
    { kind: "update", publicKey, keepaliveSeconds },
  ];
}

function sameEndpoint(a: WireguardEndpoint | undefined, b: WireguardEndpoint): boolean {
  return a?.ip === b.ip && a.port === b.port;
}
