import { OverlayError } from "../../../shared/errors.ts";
import type { Ip } from "../../../shared/ip.ts";
import { systemClock } from "../../../shared/node/system.ts";
import type { InterfaceAddress } from "../../core/data-plane/kernel-state.ts";
import {
  type DesiredWireguard,
  planPeers,
  type WireguardEndpoint,
  type WireguardKey,
} from "../../core/keys/wireguard.ts";
import { KeyedMutex } from "../../../shared/node/keyed-mutex.ts";
import { inetFaultsOf, loneLink, mendInet } from "../../kernel/inet.ts";
import type * as route from "../../kernel/netlink/route.ts";
import type { WireguardDevice } from "../../kernel/netlink/wireguard.ts";
import { transportNetns } from "../../kernel/netns.ts";
import { type DeviceDriver, WIREGUARD_DEVICE } from "./device.ts";
import { KernelDevice } from "./kernel-device.ts";
import type { WireguardState, WireguardTunnel } from "./port.ts";
import type { Secret } from "../secret.ts";
import { Transport } from "./transport.ts";
import { WireguardGoDevice } from "./go-device.ts";
import { type WireguardProcess, wireguardProcess } from "./go-process.ts";
import { wireguardPublicKey } from "./keys.ts";

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
  readonly #turn = new KeyedMutex<"device">();
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

  async faults(privateKey: Secret, desired: DesiredWireguard): Promise<string[]> {
    const link = await this.#transport.link(this.#name);
    if (link === undefined) return ["its device is missing"];
    const { mtuBytes, listenPort } = desired;
    const held = await this.#driverOf(link).read();
    const changes = planPeers(held.peers, desired, this.#asked, systemClock.wallMs());
    const { socket } = this.#transport;
    return [
      ...(link.up ? [] : ["its device is down"]),
      ...(link.mtuBytes === mtuBytes ? [] : [`its MTU is ${link.mtuBytes}, not ${mtuBytes}`]),
      ...(held.publicKey === wireguardPublicKey(privateKey) ? [] : ["its key is another one"]),
      ...(held.listenPort === listenPort ? [] : [`its port is ${held.listenPort}`]),
      ...changes.map(({ kind, publicKey }) => `the peer ${publicKey} is ${PEER_FAULTS[kind]}`),
      ...(await inetFaultsOf(socket, loneLink(link.index, addressIn(desired)))),
      ...this.#transport.settingFaults(),
    ];
  }

  async echo(inside: Ip, bytes: number, timeoutMs: number): Promise<number | undefined> {
    if (!this.#transport.exists()) return undefined;
    return this.#transport.ping.echo(inside, bytes, timeoutMs);
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
    if (!link.up || link.mtuBytes !== desired.mtuBytes)
      await driver.up(link, desired.mtuBytes, desired.listenPort);
    // One address: the peers know no other.
    await mendInet(this.#transport.socket, loneLink(link.index, addressIn(desired)));
  }

  /** A tunnel of wireguard-go is kept even when the kernel has WireGuard now: replacing it would cut traffic. */
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
}

const PEER_FAULTS = { add: "missing", update: "another one", remove: "not ours" } as const;

function addressIn({ ownInside, prefixLength }: DesiredWireguard): InterfaceAddress {
  return { ip: ownInside, prefixLength };
}

function answers(driver: DeviceDriver): Promise<boolean> {
  return driver.read().then(
    () => true,
    () => false,
  );
}
