import { join } from "node:path";
import { LinuxWireguard } from "../../agent/encryption/wireguard/linux-wireguard.ts";
import { insideOf, type WireguardHosts } from "../contract/wireguard-contract.ts";
import { TestHosts } from "./hosts.ts";

/** Hosts in namespaces, each with WireGuard as this machine has it. */
export class RealWireguardHosts implements WireguardHosts {
  readonly hosts: TestHosts;
  readonly #tunnels = new Map<number, LinuxWireguard>();

  constructor(count: number) {
    this.hosts = new TestHosts(count);
    for (let k = 1; k <= count; k++) this.#open(k);
  }

  tunnel(k: number): LinuxWireguard {
    const tunnel = this.#tunnels.get(k);
    if (tunnel === undefined) throw new Error(`no host ${k}`);
    return tunnel;
  }

  netns(k: number): string {
    return join(this.hosts.directory, `h${k}`);
  }

  netnsDirectory(k: number): string {
    return join(this.hosts.directory, `netns${k}`);
  }

  /** Others may test on this machine too: wireguard-go's sockets share one directory. */
  device(k: number): string {
    return `ovwg${process.pid % 100_000}h${k}`;
  }

  async restart(k: number): Promise<void> {
    await this.tunnel(k).close();
    this.#open(k);
  }

  lose(k: number): void {
    this.hosts.in(this.tunnel(k).transportNetns, `ip link del ${this.device(k)}`);
  }

  async reaches(from: number, to: number): Promise<boolean> {
    const options = ["-c", "1", "-W", "2"];
    return (
      (await this.hosts.ping(this.tunnel(from).transportNetns, insideOf(to), ...options)) === 1
    );
  }

  /** Hosts as they were before any agent. */
  async reset(): Promise<void> {
    for (const [k, tunnel] of this.#tunnels) {
      await tunnel.remove();
      await this.restart(k);
    }
  }

  async close(): Promise<void> {
    await this.reset();
    for (const tunnel of this.#tunnels.values()) await tunnel.close();
    this.hosts.close();
  }

  #open(k: number): void {
    const options = {
      netnsDirectory: this.netnsDirectory(k),
      hostNetns: this.netns(k),
      device: this.device(k),
    };
    this.#tunnels.set(k, new LinuxWireguard(options));
  }
}
