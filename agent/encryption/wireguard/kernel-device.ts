import { OverlayError } from "../../../shared/errors.ts";
import type { PeerChange } from "../../core/keys/wireguard.ts";
import { genlFamily } from "../../kernel/netlink/genl.ts";
import { NETLINK } from "../../kernel/netlink/raw-socket.ts";
import * as route from "../../kernel/netlink/route.ts";
import { Netlink, RtNetlink } from "../../kernel/netlink/socket.ts";
import * as wireguard from "../../kernel/netlink/wireguard.ts";
import { type DeviceDriver, needingPort } from "./device.ts";
import type { Secret } from "../secret.ts";
import type { Transport } from "./transport.ts";

/** WireGuard of the kernel (drivers/net/wireguard), over generic netlink. */
export class KernelDevice implements DeviceDriver {
  readonly by = "kernel";
  readonly #name: string;
  readonly #transport: Transport;
  readonly #hostNetns: string | undefined;
  #generic: { readonly socket: Netlink; readonly family: number } | undefined;

  constructor(name: string, transport: Transport, hostNetns: string | undefined) {
    this.#name = name;
    this.#transport = transport;
    this.#hostNetns = hostNetns;
  }

  async make(mtuBytes: number): Promise<void> {
    // The kernel loads the module for it, and knows the family only then.
    this.close();
    const host = new RtNetlink(this.#hostNetns);
    try {
      await this.#transport.withFd((fd) =>
        host.request(route.addWireguard(this.#name, mtuBytes, fd)),
      );
    } catch (error) {
      if (!(error instanceof OverlayError) || error.errno !== "EOPNOTSUPP") throw error;
      throw new OverlayError(
        { code: "UNSUPPORTED", message: "this kernel has no WireGuard", next: NEXT },
        { cause: error },
      );
    } finally {
      host.close();
    }
  }

  async read(): Promise<wireguard.WireguardDevice> {
    const { socket, family } = await this.#open();
    return wireguard.decodeDevice(await socket.dump(wireguard.dumpDevice(family, this.#name)));
  }

  async setIdentity(privateKey: Secret, listenPort: number): Promise<void> {
    const { socket, family } = await this.#open();
    const request = wireguard.setIdentity(family, this.#name, privateKey.reveal(), listenPort);
    await needingPort(listenPort, socket.request(request));
  }

  async change(changes: readonly PeerChange[]): Promise<void> {
    const { socket, family } = await this.#open();
    await socket.batch(wireguard.changePeers(family, this.#name, changes));
  }

  async up({ index }: route.Link, mtuBytes: number, listenPort: number): Promise<void> {
    const request = route.setUp(index, mtuBytes);
    await needingPort(listenPort, this.#transport.socket.request(request));
  }

  async unmake(): Promise<void> {
    await this.#transport.deleteLink(this.#name);
    this.close();
  }

  close(): void {
    this.#generic?.socket.close();
    this.#generic = undefined;
  }

  async #open(): Promise<{ socket: Netlink; family: number }> {
    if (this.#generic !== undefined) return this.#generic;
    const socket = new Netlink(this.#transport.path, NETLINK.generic);
    const family = await genlFamily(socket, wireguard.WIREGUARD_FAMILY).catch((error: unknown) => {
      socket.close();
      throw error;
    });
    if (family !== undefined) return (this.#generic = { socket, family });
    socket.close();
    throw new OverlayError({
      code: "UNSUPPORTED",
      message: "this kernel has no WireGuard",
      next: NEXT,
    });
  }
}

const NEXT = "load its module, `modprobe wireguard`, or install the package wireguard-go";
