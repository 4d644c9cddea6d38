import { OverlayError } from "../../shared/errors.ts";
import { systemClock } from "../../shared/node/system.ts";
import {
  type DesiredWireguard,
  planPeers,
  type WireguardEndpoint,
  type WireguardKey,
} from "../core/wireguard.ts";
import { InTurn } from "../in-turn.ts";
import * as route from "../kernel/netlink/route.ts";
import type { WireguardDevice } from "../kernel/netlink/wireguard.ts";
import { transportNetns } from "../kernel/netns.ts";
import { type DeviceDriver, WIREGUARD_DEVICE } from "./device.ts";
import { KernelDevice } from "./kernel-device.ts";
import type { WireguardState, WireguardTunnel } from "./port.ts";
import type { Secret } from "./secret.ts";
import { Transport } from "./transport.ts";
import { WireguardGoDevice } from "./wireguard-go-device.ts";
import { type WireguardProcess, wireguardProcess } from "./wireguard-go-process.ts";
import { wireguardPublicKey } from "./wireguard-keys.ts";

export interface LinuxWireguardOptions {
  /** Where namespaces are pinned; /run/overlay-ts/netns in service. */
  readonly netnsDirectory: string;
  /** The host's namespace; our own in service, a test's host otherwise. */
  readonly hostNetns?: string;
  /** Hosts inside one machine need names of their own: wireguard-go's sockets share a directory. */
  readonly device?: string;
  readonly process?: WireguardProcess;
}

/** WireGuard of the kernel, or where it has none, of wireguard-go. */
export class LinuxWireguard implements WireguardTunnel {
  readonly transportNetns: string;
  readonly #transport: Transport;
  readonly #name: string;
  readonly #kernel: DeviceDriver;
  readonly #process: DeviceDriver;
  readonly #listeners: (() => void)[] = [];
  readonly #turn = new InTurn<"device">();
  /** Endpoints as they were desired last: what the device says else, it has learnt. */
  #asked: ReadonlyMap<WireguardKey, WireguardEndpoint> = new Map();

  constructor({ netnsDirectory, hostNetns, device, process }: LinuxWireguardOptions) {
    const name = (this.#name = device ?? WIREGUARD_DEVICE);
    this.transportNetns = transportNetns(netnsDirectory);
    const transport = (this.#transport = new Transport(this.transportNetns, () => {
      for (const listener of this.#listeners) listener();
    }));
    this.#kernel = new KernelDevice(name, transport, hostNetns);
    this.#process = new WireguardGoDevice(
      name,
      transport,
      hostNetns,
      process ?? wireguardProcess(name, hostNetns),
    );
  }

  set(privateKey: Secret, desired: DesiredWireguard): Promise<void> {
    return this.#turn.run("device", async () => {
      this.#transport.ensure();
      await this.#transport.quietly(() => this.#set(privateKey, desired));
    });
  }

  async read(): Promise<WireguardState | undefined> {
    const link = await this.#transport.link(this.#name);
    if (link === undefined) return undefined;
    const driver = this.#driverOf(link);
    const { publicKey, listenPort, peers } = await driver.read();
    const [address] = await this.#transport.addresses(link.index);
    return {
      by: driver.by,
      publicKey,
      listenPort,
      inside: address?.ip,
      mtuBytes: link.mtuBytes,
      up: link.up,
      peers,
    };
  }

  onLoss(listener: () => void): void {
    this.#listeners.push(listener);
  }

  remove(): Promise<void> {
    return this.#turn.run("device", async () => {
      if (this.#transport.exists()) await this.#transport.quietly(() => this.#unmake());
      this.#asked = new Map();
      this.#transport.remove();
    });
  }

  async close(): Promise<void> {
    await this.#turn.run("device", () => {
      this.#kernel.close();
      this.#process.close();
      this.#transport.close();
      return Promise.resolve();
    });
  }

  async #set(privateKey: Secret, desired: DesiredWireguard): Promise<void> {
    const { driver, link } = await this.#device(desired.mtuBytes);
    const held = await driver.read();
    await this.#identity(driver, held, privateKey, desired.listenPort);
    await this.#peers(driver, held, desired);
    await this.#address(link, desired);
    if (!link.up || link.mtuBytes !== desired.mtuBytes)
      await driver.up(link, desired.mtuBytes, desired.listenPort);
  }

  /** What stands is kept, whatever the kernel has learnt since: a tunnel is not cut for a better one. */
  async #device(mtuBytes: number): Promise<{ driver: DeviceDriver; link: route.Link }> {
    const standing = await this.#transport.link(this.#name);
    if (standing !== undefined) {
      const driver = this.#driverOf(standing);
      // A process does not hear of another MTU once its interface has left its namespace.
      const adopted =
        driver.by === "kernel" || (standing.mtuBytes === mtuBytes && (await answers(driver)));
      if (adopted) return { driver, link: standing };
      await this.#unmake();
    }
    this.#asked = new Map();
    const driver = await this.#made(mtuBytes);
    const link = await this.#transport.link(this.#name);
    if (link !== undefined) return { driver, link };
    throw new OverlayError({
      code: "NETLINK",
      op: `RTM_NEWLINK wireguard ${this.#name}`,
      errno: "ENODEV",
      message: `${this.#name} was made and is not there`,
    });
  }

  /** Also a process whose interface is gone, and one whose socket is. */
  async #unmake(): Promise<void> {
    await this.#process.unmake();
    await this.#kernel.unmake();
  }

  async #made(mtuBytes: number): Promise<DeviceDriver> {
    try {
      await this.#kernel.make(mtuBytes);
      return this.#kernel;
    } catch (error) {
      if (!(error instanceof OverlayError) || error.code !== "UNSUPPORTED") throw error;
      await this.#process.make(mtuBytes);
      return this.#process;
    }
  }

  #driverOf({ kind }: route.Link): DeviceDriver {
    return kind === "wireguard" ? this.#kernel : this.#process;
  }

  async #identity(
    driver: DeviceDriver,
    held: WireguardDevice,
    privateKey: Secret,
    listenPort: number,
  ): Promise<void> {
    const same =
      held.publicKey === wireguardPublicKey(privateKey) && held.listenPort === listenPort;
    if (!same) await driver.setIdentity(privateKey, listenPort);
  }

  async #peers(
    driver: DeviceDriver,
    held: WireguardDevice,
    desired: DesiredWireguard,
  ): Promise<void> {
    const changes = planPeers(held.peers, desired, this.#asked, systemClock.wallMs());
    await driver.change(changes);
    this.#asked = new Map(desired.peers.map(({ publicKey, endpoint }) => [publicKey, endpoint]));
  }

  /** One address: the peers know no other. */
  async #address(
    { index }: route.Link,
    { ownInside, prefixLength }: DesiredWireguard,
  ): Promise<void> {
    const held = await this.#transport.addresses(index);
    const isOurs = (ip: string, length: number): boolean =>
      ip === ownInside && length === prefixLength;
    const others = held.filter((address) => !isOurs(address.ip, address.prefixLength));
    const missing = others.length === held.length;
    await this.#transport.socket.batch([
      ...others.map((address) => route.deleteAddress(index, address.ip, address.prefixLength)),
      ...(missing ? [route.addAddress(index, ownInside, prefixLength)] : []),
    ]);
  }
}

function answers(driver: DeviceDriver): Promise<boolean> {
  return driver.read().then(
    () => true,
    () => false,
  );
}
