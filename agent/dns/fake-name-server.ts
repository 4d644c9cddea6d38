import type { NetworkId } from "../../shared/ids.ts";
import type { Family, Ip } from "../../shared/ip.ts";
import { NameTable } from "../core/names.ts";
import type { NameServer, Sandbox, SandboxId, SandboxStatus, TableChange } from "./port.ts";

/** What a name server is told, and what it would answer; without namespaces, sockets and packets. */
export class FakeNameServer implements NameServer {
  readonly table = new NameTable();
  readonly served = new Map<SandboxId, Sandbox>();
  readonly networks = new Set<NetworkId>();

  start(): Promise<void> {
    return Promise.resolve();
  }

  change(changes: readonly TableChange[]): void {
    for (const change of changes)
      switch (change.kind) {
        case "network":
          this.networks.add(change.info.network);
          this.table.setNetwork(change.info);
          break;
        case "holders":
          this.table.change(change.network, change.put, change.remove);
          break;
        case "forget":
          this.networks.delete(change.network);
          this.table.forgetNetwork(change.network);
      }
  }

  serve(sandbox: Sandbox): Promise<void> {
    this.served.set(sandbox.id, sandbox);
    return Promise.resolve();
  }

  withdraw(id: SandboxId): Promise<void> {
    this.served.delete(id);
    return Promise.resolve();
  }

  /** What a container there would hear; undefined: the name is not ours. */
  ask(id: SandboxId, name: string, family: Family = 4): readonly Ip[] | undefined {
    return this.table.find(this.served.get(id)?.scope ?? [], name, family)?.ips;
  }

  sandboxes(): Promise<readonly SandboxStatus[]> {
    return Promise.resolve(
      [...this.served.keys()].map((id) => ({ id, state: "serving", problem: undefined })),
    );
  }

  counters(): Promise<Readonly<Record<string, number>>> {
    return Promise.resolve({});
  }

  owesSinceMs(): undefined {
    return undefined;
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }
}
