import dnsPacket from "dns-packet";
import type { OverlayError } from "../../shared/errors.ts";
import { NameTable } from "../../agent/core/names/name-table.ts";
import { reply } from "../../agent/names/server/answer.ts";
import { applyChanges } from "../../agent/names/server/apply-changes.ts";
import type {
  NameServer,
  Sandbox,
  SandboxId,
  SandboxStatus,
  TableChange,
} from "../../agent/names/server/port.ts";

/** Serves names in memory: keeps what it was told, and answers by the same table. */
export class FakeNameServer implements NameServer {
  readonly served = new Map<SandboxId, Sandbox>();
  /** Where somebody changed something. */
  readonly changed = new Set<SandboxId>();
  /** Why it serves none that it is told of. */
  refuses: OverlayError | undefined;
  readonly table = new NameTable();
  #running = false;

  start(): Promise<void> {
    this.#running = true;
    return Promise.resolve();
  }

  change(changes: readonly TableChange[]): void {
    applyChanges(this.table, changes);
  }

  serve(sandbox: Sandbox): Promise<void> {
    if (this.refuses !== undefined) return Promise.reject(this.refuses);
    this.served.set(sandbox.id, sandbox);
    return Promise.resolve();
  }

  withdraw(id: SandboxId): Promise<void> {
    this.served.delete(id);
    return Promise.resolve();
  }

  sandboxes(): Promise<readonly SandboxStatus[]> {
    const state = this.#running ? ("serving" as const) : ("failed" as const);
    return Promise.resolve(
      [...this.served.keys()].map((id) => ({ id, state, problem: undefined })),
    );
  }

  check(): Promise<readonly SandboxId[]> {
    const mended = [...this.changed];
    this.changed.clear();
    return Promise.resolve(mended);
  }

  counters(): Promise<Readonly<Record<string, number>>> {
    return Promise.resolve({});
  }

  owesSinceMs(): number | undefined {
    return undefined;
  }

  stop(): Promise<void> {
    this.#running = false;
    return Promise.resolve();
  }

  /** What a container is told: its records' data; undefined: Docker's resolver answers. */
  ask(id: SandboxId, name: string, type: "A" | "AAAA" | "PTR" = "A"): string[] | undefined {
    const sandbox = this.served.get(id);
    if (sandbox === undefined || !this.#running) return undefined;
    const query = dnsPacket.encode({ type: "query", id: 1, questions: [{ name, type }] });
    const said = reply(query, this.table, sandbox.scope, "tcp");
    if (typeof said !== "object") return undefined;
    const answers = dnsPacket.decode(said.bytes).answers ?? [];
    return answers.flatMap((answer) =>
      "data" in answer && typeof answer.data === "string" ? [answer.data] : [],
    );
  }
}
