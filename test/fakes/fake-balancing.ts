import type { Balancing, Client, ClientStatus, ServedAddress } from "../../agent/balancing/port.ts";
import type { Service } from "../../agent/core/balancing/service.ts";
import type { NetworkId } from "../../shared/ids.ts";
import { Signal } from "../../shared/signal.ts";

/** Tables in memory: written when the test says so, or at once. */
export class FakeBalancing implements Balancing {
  readonly changed = new Signal<[id: string]>();
  readonly told = new Map<NetworkId, readonly Service[]>();
  readonly #clients = new Map<string, Client>();
  readonly #written = new Map<string, readonly ServedAddress[]>();
  /** False: nothing is written before `write`. */
  writes = true;

  services(network: NetworkId, services: readonly Service[]): void {
    if (services.length === 0) this.told.delete(network);
    else this.told.set(network, services);
    if (this.writes) this.write();
  }

  serve(client: Client): void {
    this.#clients.set(client.id, client);
    if (this.writes) this.write();
  }

  withdraw(id: string): Promise<void> {
    this.#clients.delete(id);
    this.#written.delete(id);
    this.changed.emit(id);
    return Promise.resolve();
  }

  clients(): readonly ClientStatus[] {
    return [...this.#clients.keys()].map((id) => ({
      id,
      state: "served",
      problem: undefined,
      served: this.served(id),
    }));
  }

  served(id: string): readonly ServedAddress[] {
    return this.#written.get(id) ?? [];
  }

  /** Every client's table is what it should be. */
  write(): void {
    for (const [id, { networks }] of this.#clients) {
      const services = networks.flatMap((network) => this.told.get(network) ?? []);
      this.#written.set(
        id,
        services.map(({ network, name, ipv4, ipv6 }) => ({ network, name, ipv4, ipv6 })),
      );
      this.changed.emit(id);
    }
  }

  check(): Promise<readonly string[]> {
    return Promise.resolve([]);
  }

  counters(): Readonly<Record<string, number>> {
    return {};
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }
}
