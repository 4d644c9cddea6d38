import { closeSync, openSync } from "node:fs";
import { OverlayError } from "../../../shared/errors.ts";
import type { InterfaceAddress } from "../../core/data-plane/kernel-state.ts";
import { addressesOf, linkNamed } from "../../kernel/netlink/dumps.ts";
import * as route from "../../kernel/netlink/route.ts";
import { RtNetlink } from "../../kernel/netlink/socket.ts";
import {
  createPinnedNetns,
  deletePinnedNetns,
  ECHO_SOCKETS,
  inNetns,
  isPinnedNetns,
  netSettingFaults,
  setNetSettings,
} from "../../kernel/netns.ts";
import { PingSocket } from "../../kernel/proof/ping-socket.ts";
import { Watch } from "../../kernel/watch.ts";

const SETTINGS = [
  ["ipv4/ip_forward", "0"],
  ["ipv4/conf/all/accept_redirects", "0"],
  ["ipv4/conf/default/accept_redirects", "0"],
  // The path is as wide as the device: a member's ICMP could only make it narrower for others.
  ["ipv4/ip_no_pmtu_disc", "2"],
  ["ipv6/conf/all/disable_ipv6", "1"],
  ["ipv6/conf/default/disable_ipv6", "1"],
  ECHO_SOCKETS,
] as const;

/**
 * The namespace that WireGuard's device shares with the VXLAN sockets of its class, and with nothing
 * else: what cannot go through the device has nowhere to go.
 */
export class Transport {
  readonly path: string;
  readonly #onLoss: () => void;
  #socket: RtNetlink | undefined;
  #watch: Watch | undefined;
  #ping: PingSocket | undefined;

  constructor(path: string, onLoss: () => void) {
    this.path = path;
    this.#onLoss = onLoss;
  }

  exists(): boolean {
    return isPinnedNetns(this.path);
  }

  ensure(): void {
    if (!this.exists()) {
      this.close();
      createPinnedNetns(this.path);
    }
    setNetSettings(this.path, SETTINGS);
  }

  /** What of its settings somebody changed. */
  settingFaults(): string[] {
    return netSettingFaults(this.path, SETTINGS);
  }

  /** A socket of the namespace, which must be there. */
  get socket(): RtNetlink {
    this.#watch ??= new Watch(this.path, this.#onLoss);
    return (this.#socket ??= new RtNetlink(this.path));
  }

  /** The same, to ask peers. */
  get ping(): PingSocket {
    return (this.#ping ??= inNetns(this.path, () => new PingSocket()));
  }

  /** Losses are not told meanwhile: they are our own. */
  async quietly<T>(work: () => Promise<T>): Promise<T> {
    const { socket: _ } = this;
    const watch = this.#watch;
    watch?.pause();
    try {
      return await work();
    } finally {
      watch?.resume();
    }
  }

  async link(name: string): Promise<route.Link | undefined> {
    return this.exists() ? linkNamed(this.socket, name) : undefined;
  }

  /** Gone already is success: who ran it may have taken it along. */
  async deleteLink(name: string): Promise<void> {
    const link = await this.link(name);
    if (link === undefined) return;
    await this.socket.request(route.deleteLink(link.index, name)).catch((error: unknown) => {
      if (!(error instanceof OverlayError) || error.errno !== "ENODEV") throw error;
    });
  }

  async addresses(index: number): Promise<InterfaceAddress[]> {
    return (await addressesOf(this.socket))(index);
  }

  /** Runs `work` with an open descriptor of the namespace, to make or move devices into it. */
  async withFd<T>(work: (fd: number) => Promise<T>): Promise<T> {
    const fd = openSync(this.path, "r");
    try {
      return await work(fd);
    } finally {
      closeSync(fd);
    }
  }

  remove(): void {
    this.close();
    deletePinnedNetns(this.path);
  }

  close(): void {
    this.#socket?.close();
    this.#watch?.close();
    this.#ping?.close();
    this.#socket = undefined;
    this.#watch = undefined;
    this.#ping = undefined;
  }
}
