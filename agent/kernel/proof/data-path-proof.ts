import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { type Mac, ruleMac } from "../../../shared/mac.ts";
import type { Ip } from "../../../shared/ip.ts";
import type { DesiredProof, InterfaceAddress } from "../../core/data-plane/kernel-state.ts";
import { some } from "../../core/data-plane/differences.ts";
import { missing } from "../errno.ts";
import { inetFaultsOf, loneLink, mendInet } from "../inet.ts";
import { deleteAtOnce } from "../netlink/deletions.ts";
import { linkNamed, neighboursOf } from "../netlink/dumps.ts";
import * as neighbour from "../netlink/neighbour.ts";
import * as route from "../netlink/route.ts";
import { RtNetlink } from "../netlink/socket.ts";
import {
  createPinnedNetns,
  deletePinnedNetns,
  ECHO_SOCKETS,
  inNetns,
  isPinnedNetns,
  netSettingFaults,
  setNetSettings,
  withNetnsDescriptor,
} from "../netns.ts";
import { PingSocket } from "./ping-socket.ts";
import { withPortNamed } from "../port-holder.ts";
import type { DataPathProof, ProbeResult } from "../port.ts";
import { Watch } from "../watch.ts";

const DEVICE = "vx0";
const SETTINGS = [ECHO_SOCKETS];

type Peer = DesiredProof["peers"][number];

/** Of the class in clear and of IPsec's: files where namespaces are pinned. */
export const PROOF_NETNS = { none: "proof", ipsec: "proof-ipsec" } as const;

export interface LinuxProofOptions {
  readonly netnsDirectory: string;
  readonly hostNetns?: string;
  /** `none` unless it says otherwise. */
  readonly of?: keyof typeof PROOF_NETNS;
}

/**
 * A network of hosts, not of containers: one VXLAN device with an address in a namespace of its
 * own, and one entry a peer. That the peer's kernel answers a full-size echo through it, without
 * fragments, is the proof that containers' frames pass.
 */
export class LinuxDataPathProof implements DataPathProof {
  readonly #path: string;
  readonly #host: RtNetlink;
  readonly #listeners: (() => void)[] = [];
  #held: { readonly socket: RtNetlink; readonly watch: Watch } | undefined;
  #ping: PingSocket | undefined;
  /** Of the device, since it was looked at in this namespace. */
  #device: number | undefined;
  #mtuBytes = 0;

  constructor(options: LinuxProofOptions) {
    this.#path = join(options.netnsDirectory, PROOF_NETNS[options.of ?? "none"]);
    this.#host = new RtNetlink(options.hostNetns);
  }

  /** Correct parts are kept, so that peers' echoes are answered meanwhile. */
  async set(desired: DesiredProof, stands?: DesiredProof): Promise<void> {
    this.#ensure();
    this.#watch.pause();
    try {
      const device = this.#device;
      if (stands === undefined || device === undefined || !isSameDevice(desired, stands))
        await this.#setWhole(desired);
      else await this.#write(device, changedPeers(desired, stands));
    } finally {
      this.#watch.resume();
    }
  }

  async faults(desired: DesiredProof): Promise<string[]> {
    if (!isPinnedNetns(this.#path)) return ["its namespace is missing"];
    this.#ensure();
    const device = await linkNamed(this.#socket, DEVICE);
    if (device === undefined) return ["its VXLAN device is missing"];
    const { stale, missing } = await this.#entries(device, desired);
    const addressed = ({ address }: Peer): string => address;
    return [
      ...(isShaped(device, desired) ? [] : ["its VXLAN device is down, or another one"]),
      ...some(missing.map(addressed), (which) => `it has no entries for ${which}`),
      ...some(stale, (which) => `it has entries for ${which}, where no host is`),
      ...(await inetFaultsOf(this.#socket, loneLink(device.index, addressIn(desired)))),
      ...netSettingFaults(this.#path, SETTINGS),
    ];
  }

  onLoss(listener: () => void): void {
    this.#listeners.push(listener);
  }

  async probe(address: Ip, timeoutMs: number, bytes = this.#mtuBytes): Promise<ProbeResult> {
    const roundTripMs = await this.#ping?.echo(address, bytes, timeoutMs);
    return { address, roundTripMs, bytes };
  }

  /** Sockets only: peers go on proving their path to us while this agent restarts. */
  close(): Promise<void> {
    this.#forget();
    this.#host.close();
    return Promise.resolve();
  }

  /** For `leave` and tests. */
  async remove(): Promise<void> {
    if (isPinnedNetns(this.#path)) {
      this.#ensure();
      const device = await linkNamed(this.#socket, DEVICE);
      if (device !== undefined) await this.#socket.request(route.deleteLink(device.index, DEVICE));
    }
    this.#forget();
    deletePinnedNetns(this.#path);
  }

  async #setWhole(desired: DesiredProof): Promise<void> {
    this.#device = undefined;
    setNetSettings(this.#path, SETTINGS);
    this.#mtuBytes = desired.mtuBytes;
    const device = await this.#made(desired);
    await mendInet(this.#socket, loneLink(device.index, addressIn(desired)));
    await this.#write(device.index, await this.#entries(device, desired));
    this.#ping ??= inNetns(this.#path, () => new PingSocket());
    this.#device = device.index;
  }

  async #write(device: number, { stale, missing }: Entries): Promise<void> {
    await this.#socket.batch(
      missing.flatMap(({ address, vtep }) => [
        neighbour.putSelfFdb(device, ruleMac(address), vtep),
        neighbour.putNeighbour(device, address, ruleMac(address)),
      ]),
    );
    await deleteAtOnce(
      this.#socket,
      stale.map((mac) => neighbour.deleteFdb(device, mac, "self")),
    );
  }

  /** Made anew when it is another one: it has no more to lose than what follows here. */
  async #made(desired: DesiredProof): Promise<route.Link> {
    const held = await linkNamed(this.#socket, DEVICE);
    if (held !== undefined && isShaped(held, desired)) return held;
    if (held !== undefined) await this.#socket.request(route.deleteLink(held.index, DEVICE));
    const mac = ruleMac(desired.ownAddress);
    await withNetnsDescriptor(this.#path, (fd) =>
      this.#host.request(route.addVxlan(DEVICE, desired, mac, fd)),
    );
    const made = await linkNamed(this.#socket, DEVICE);
    if (made === undefined) throw missing("the proof device");
    await this.#socket
      .request(route.setUp(made.index, desired.mtuBytes))
      .catch((error: unknown) => {
        throw withPortNamed(error, desired.udpPort);
      });
    return made;
  }

  async #entries(device: route.Link, { peers }: DesiredProof): Promise<Entries> {
    const own = <T extends { index: number }>(all: readonly T[]): T[] =>
      all.filter(({ index }) => index === device.index);
    const fdb = own(await neighboursOf(this.#socket, "bridge"));
    const vteps = new Map(fdb.map(({ mac, destination }) => [mac, destination]));
    const macs = new Map(
      own(await neighboursOf(this.#socket, 4)).map(({ mac, destination }) => [destination, mac]),
    );
    const wanted = new Set<Mac | undefined>(peers.map(({ address }) => ruleMac(address)));
    return {
      missing: peers.filter(
        ({ address, vtep }) =>
          vteps.get(ruleMac(address)) !== vtep || macs.get(address) !== ruleMac(address),
      ),
      stale: fdb.flatMap(({ mac }) => (mac === undefined || wanted.has(mac) ? [] : [mac])),
    };
  }

  /** The namespace, and sockets in it: with another one there they are of no use. */
  #ensure(): void {
    // After a power cut that /run outlived, a plain file may be there, and nothing is pinned.
    if (isPinnedNetns(this.#path)) {
      if (this.#held !== undefined) return;
    } else {
      this.#forget();
      createPinnedNetns(this.#path);
    }
    const watch = new Watch(this.#path, () => {
      for (const listener of this.#listeners) listener();
    });
    this.#held = { socket: new RtNetlink(this.#path), watch };
  }

  get #socket(): RtNetlink {
    if (this.#held === undefined) throw missing("the proof's namespace");
    return this.#held.socket;
  }

  get #watch(): Watch {
    if (this.#held === undefined) throw missing("the proof's namespace");
    return this.#held.watch;
  }

  #forget(): void {
    this.#ping?.close();
    this.#held?.socket.close();
    this.#held?.watch.close();
    this.#ping = undefined;
    this.#held = undefined;
    this.#device = undefined;
  }
}

/** Hosts without both entries as they should be; MACs of hosts that are none. */
interface Entries {
  readonly missing: readonly Peer[];
  readonly stale: readonly Mac[];
}

function changedPeers({ peers }: DesiredProof, stands: DesiredProof): Entries {
  const before = new Map(stands.peers.map(({ address, vtep }) => [address, vtep]));
  const missing = peers.filter(({ address, vtep }) => before.get(address) !== vtep);
  for (const { address } of peers) before.delete(address);
  return { missing, stale: [...before.keys()].map((address) => ruleMac(address)) };
}

/** Another one in nothing but whom it asks. */
function isSameDevice(desired: DesiredProof, stands: DesiredProof): boolean {
  return isDeepStrictEqual({ ...desired, peers: [] }, { ...stands, peers: [] });
}

function isShaped({ up, mtuBytes, vxlan }: route.Link, desired: DesiredProof): boolean {
  return (
    up &&
    mtuBytes === desired.mtuBytes &&
    vxlan?.vni === desired.vni &&
    vxlan.udpPort === desired.udpPort &&
    vxlan.localVtep === desired.localVtep
  );
}

function addressIn({ ownAddress, prefixLength }: DesiredProof): InterfaceAddress {
  return { ip: ownAddress, prefixLength };
}
