import type { Balancing, Client, ClientStatus, ServedAddress } from "../../agent/balancing/port.ts";
import type { Service } from "../../agent/core/balancing/service.ts";
import type { NetworkId } from "../../shared/ids.ts";
import { Signal } from "../../shared/signal.ts";

/** Tables in memory: written at once, by nobody changed. */
export class FakeBalancing implements Balancing {
  readonly changed = new Signal<[id: string]>();
  readonly #services = new Map<NetworkId, readonly Service[]>();
  readonly #clients = new Map<string, { client: Client; served: readonly ServedAddress[] }>();

  /** What a client's table was written from. */
  servicesOf(id: string): readonly Service[] {
    const networks = this.#clients.get(id)?.client.networks ?? [];
    return networks.flatMap((network) => this.#services.get(network) ?? []);
  }

  services(network: NetworkId, services: readonly Service[]): void {
    this.#services.set(network, services);
    for (const [id, { client }] of this.#clients)
      if (client.networks.includes(network)) this.#write(id);
  }

  serve(client: Client): void {
    const served = this.#clients.get(client.id)?.served ?? [];
    this.#clients.set(client.id, { client, served });
    this.#write(client.id);
  }

  async withdraw(id: string): Promise<void> {
    if (this.#clients.delete(id)) this.changed.emit(id);
  }

  clients(): readonly ClientStatus[] {
    return [...this.#clients].map(([id, { served }]) => ({
      id,
      state: served.length === 0 ? "idle" : "served",
      problem: undefined,
      served,
    }));
  }

  served(id: string): readonly ServedAddress[] {
    return this.#clients.get(id)?.served ?? [];
  }

  async check(): Promise<readonly string[]> {
    return [];
  }

  counters(): Readonly<Record<string, number>> {
    return {};
  }

  async stop(): Promise<void> {}

  #write(id: string): void {
    const known = this.#clients.get(id)!;
    const before = JSON.stringify(known.served);
    known.served = this.servicesOf(id).map(({ network, name, ipv4, ipv6 }) => ({
      network,
      name,
      ipv4,
      ipv6,
    }));
    if (JSON.stringify(known.served) !== before) this.changed.emit(id);
  }
}
