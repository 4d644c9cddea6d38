import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ruleMac } from "../../shared/mac.ts";
import type { Ip } from "../../shared/ip.ts";
import type { DesiredProof } from "../core/data-plane.ts";
import { linksOf, neighboursOf } from "./netlink/dumps.ts";
import * as neighbour from "./netlink/neighbour.ts";
import * as route from "./netlink/route.ts";
import { RtNetlink } from "./netlink/socket.ts";
import {
  createPinnedNetns,
  deletePinnedNetns,
  inNetns,
  isPinnedNetns,
  withNetnsDescriptor,
} from "./netns.ts";
import { PingSocket } from "./ping-socket.ts";
import type { DataPathProof, ProbeResult } from "./port.ts";

/** IPv4 header without options, ICMP header: what of the MTU is not payload. */
const HEADERS_BYTES = 28;
const DEVICE = "vx0";

/**
 * A network of hosts, not of containers: one VXLAN device with an address in a namespace of its
 * own, and one entry a peer. That the peer's kernel answers a full-size echo through it, without
 * fragments, is the proof that containers' frames pass.
 */
export class LinuxDataPathProof implements DataPathProof {
  readonly #path: string;
  readonly #host: RtNetlink;
  #socket: RtNetlink | undefined;
  #ping: PingSocket | undefined;
  #shape = "";
  #mtuBytes = 0;

  constructor(options: { netnsDirectory: string; hostNetns?: string }) {
    this.#path = join(options.netnsDirectory, "proof");
    this.#host = new RtNetlink(options.hostNetns);
  }

  async set(desired: DesiredProof): Promise<void> {
    const { peers, ...rest } = desired;
    const shape = JSON.stringify(rest);
    if (shape !== this.#shape) await this.#make(desired);
    this.#shape = shape;
    const { socket, device } = await this.#device();
    await socket.batch(
      peers.flatMap(({ address, vtep }) => [
        neighbour.putSelfFdb(device.index, ruleMac(address), vtep),
        neighbour.putNeighbour(device.index, address, ruleMac(address)),
      ]),
    );
    const wanted = new Set<string>(peers.map(({ address }) => ruleMac(address)));
    const stale = (await neighboursOf(socket, "bridge")).flatMap(({ mac }) =>
      mac === undefined || wanted.has(mac) ? [] : [mac],
    );
    for (const mac of stale)
      await socket.request(neighbour.deleteFdb(device.index, mac, "self")).catch(() => {});
  }

  async probe(address: Ip, timeoutMs: number): Promise<ProbeResult> {
    const payload = this.#mtuBytes - HEADERS_BYTES;
    const roundTripMs = await this.#ping?.echo(address, payload, timeoutMs);
    return { address, roundTripMs, bytes: this.#mtuBytes };
  }

  /** Sockets only: peers go on proving their path to us while this agent restarts. */
  close(): Promise<void> {
    this.#ping?.close();
    this.#socket?.close();
    this.#host.close();
    return Promise.resolve();
  }

  /** For `leave` and tests. */
  async remove(): Promise<void> {
    this.#ping?.close();
    this.#ping = undefined;
    await this.#clear();
    this.#socket?.close();
    this.#socket = undefined;
    deletePinnedNetns(this.#path);
    this.#shape = "";
  }

  async #make(desired: DesiredProof): Promise<void> {
    // After a power cut that /run outlived, a plain file may be there, and nothing is pinned.
    if (!isPinnedNetns(this.#path)) {
      this.#socket?.close();
      this.#socket = undefined;
      createPinnedNetns(this.#path);
    }
    this.#socket ??= new RtNetlink(this.#path);
    await this.#clear();
    const mac = ruleMac(desired.ownAddress);
    await withNetnsDescriptor(this.#path, (fd) =>
      this.#host.request(route.addVxlan(DEVICE, desired, mac, fd)),
    );
    const { socket, device } = await this.#device();
    await socket.batch([
      route.setUp(device.index, desired.mtuBytes),
      route.addAddress(device.index, desired.ownAddress, desired.prefixLength),
    ]);
    this.#mtuBytes = desired.mtuBytes;
    this.#ping?.close();
    this.#ping = inNetns(this.#path, () => {
      // icmp(7): sockets that may only send echo requests, for every group; here there is only us.
      writeFileSync("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
      return new PingSocket();
    });
  }

  async #clear(): Promise<void> {
    const links = this.#socket === undefined ? [] : await linksOf(this.#socket);
    for (const link of links)
      if (link.name === DEVICE) await this.#socket?.request(route.deleteLink(link.index, DEVICE));
  }

  async #device(): Promise<{ socket: RtNetlink; device: route.Link }> {
    const socket = (this.#socket ??= new RtNetlink(this.#path));
    const links = await linksOf(socket);
    const device = links.find(({ name }) => name === DEVICE);
    if (device !== undefined) return { socket, device };
    // Deleted behind our back: the next `set` makes it again.
    this.#shape = "";
    throw new Error("the proof device is gone");
  }
}
