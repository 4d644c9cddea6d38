import { expect, test } from "vitest";
import type { NameServer, Sandbox } from "../../agent/names/server/port.ts";
import type { Scope } from "../../agent/core/names/name-table.ts";
import { Ip } from "../../shared/ip.ts";
import { holder, holders, net, network, on } from "../support/names.ts";

export interface NameServerRig {
  /** Started. */
  readonly server: NameServer;
  /** A new container, not served yet. */
  container(): Promise<Container>;
}

export interface Container {
  sandbox(scope: Scope): Sandbox;
  /** What it is told; undefined: as if nobody served it. */
  ask(name: string, type?: "A" | "AAAA" | "PTR"): Promise<string[] | undefined>;
}

const WAIT = { timeout: 15_000 } as const;

export function nameServerContract(rig: () => NameServerRig): void {
  const db = [network(1, "app"), holders(1, [holder(5, ["db"])])];

  test("a container is told the names of its networks, and no others", async () => {
    const { server } = rig();
    server.change([...db, network(2, "other"), holders(2, [holder(6, ["web"])])]);
    const [a, b] = [await rig().container(), await rig().container()];
    await server.serve(a.sandbox([on(1)]));
    await server.serve(b.sandbox([on(2)]));
    expect(await a.ask("db")).toEqual(["10.192.0.5"]);
    expect(await a.ask("db.app")).toEqual(["10.192.0.5"]);
    expect(await a.ask("web")).toBeUndefined();
    expect(await b.ask("web")).toEqual(["10.192.0.6"]);
    expect(await b.ask("db")).toBeUndefined();
    expect(await b.ask("6.0.192.10.in-addr.arpa", "PTR")).toEqual(["web.other"]);
  });

  test("a change is seen by the next question", async () => {
    const { server } = rig();
    server.change(db);
    const a = await rig().container();
    await server.serve(a.sandbox([on(1)]));
    server.change([holders(1, [holder(5, ["db"], { ips: [Ip.parse("10.192.0.9")] })])]);
    await expect.poll(() => a.ask("db"), WAIT).toEqual(["10.192.0.9"]);
    server.change([holders(1, [holder(5, ["db"], { out: "unhealthy" })])]);
    await expect.poll(() => a.ask("db"), WAIT).toEqual([]);
    server.change([holders(1, [], [holder(5, []).endpoint])]);
    await expect.poll(() => a.ask("db"), WAIT).toBeUndefined();
    server.change([...db, { kind: "forget", network: net(1) }]);
    await expect.poll(() => a.ask("db"), WAIT).toBeUndefined();
  });

  test("served again, it has another scope", async () => {
    const { server } = rig();
    server.change([...db, network(2, "other"), holders(2, [holder(6, ["web"])])]);
    const a = await rig().container();
    await server.serve(a.sandbox([on(1)]));
    await server.serve(a.sandbox([on(2)]));
    expect(await a.ask("db")).toBeUndefined();
    expect(await a.ask("web")).toEqual(["10.192.0.6"]);
    expect(await server.sandboxes()).toMatchObject([{ state: "serving" }]);
  });

  test("withdrawn, it is as if it had never been served; twice is once", async () => {
    const { server } = rig();
    server.change(db);
    const a = await rig().container();
    const { id } = a.sandbox([]);
    await server.withdraw(id);
    await server.serve(a.sandbox([on(1)]));
    await server.withdraw(id);
    await server.withdraw(id);
    expect(await a.ask("db")).toBeUndefined();
    expect(await server.sandboxes()).toEqual([]);
    await server.serve(a.sandbox([on(1)]));
    expect(await a.ask("db")).toEqual(["10.192.0.5"]);
  });

  test("in whatever order they are called, the last one counts", async () => {
    const { server } = rig();
    server.change(db);
    const a = await rig().container();
    const { id } = a.sandbox([]);
    await Promise.all([
      server.serve(a.sandbox([on(1)])),
      server.withdraw(id),
      server.serve(a.sandbox([])),
      server.withdraw(id),
      server.serve(a.sandbox([on(1)])),
    ]);
    expect(await a.ask("db")).toEqual(["10.192.0.5"]);
    expect(await server.sandboxes()).toMatchObject([{ id, state: "serving" }]);
  });

  test("stopped, nobody is answered any more", async () => {
    const { server } = rig();
    server.change(db);
    const a = await rig().container();
    await server.serve(a.sandbox([on(1)]));
    await server.stop("handOver");
    expect(await a.ask("db")).toBeUndefined();
  });
}
