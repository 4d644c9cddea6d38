import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LinuxNameServer } from "../../agent/dns/linux-name-server.ts";
import { silentLog } from "../../shared/ports.ts";
import { DnsSandbox, hasLegacyIptables } from "../support/dns-sandbox.ts";
import { holder, holders, net, network } from "../support/names.ts";

/** Containers as namespaces with a stand-in for Docker's resolver; no engine. */

let server: LinuxNameServer;
let sandboxes: DnsSandbox[];

beforeEach(async () => {
  sandboxes = [];
  server = new LinuxNameServer({ checkMs: 100 }, silentLog);
  await server.start();
  server.change([
    network(1, "app"),
    holders(1, [
      holder(5, ["db", "postgres"]),
      holder(6, ["web"]),
      holder(7, ["web"]),
      holder(8, ["ill"], { out: "unhealthy" }),
    ]),
    network(2, "other"),
    holders(2, [holder(9, ["secret"])]),
  ]);
});

afterEach(async () => {
  await server.stop("handOver");
  for (const sandbox of sandboxes) await sandbox.close();
});

async function open(kind?: "iptables-nft" | "iptables-legacy"): Promise<DnsSandbox> {
  const sandbox = await DnsSandbox.open(kind);
  sandboxes.push(sandbox);
  return sandbox;
}

describe.each(
  hasLegacyIptables()
    ? (["iptables-nft", "iptables-legacy"] as const)
    : (["iptables-nft"] as const),
)("beside Docker's rules made with %s", (kind) => {
  test("a name of ours is answered here, everything else by Docker's resolver", async () => {
    const sandbox = await open(kind);
    expect(await sandbox.first("db")).toBe("NXDOMAIN");
    await server.serve(sandbox.sandbox([net(1)]));
    for (const transport of ["udp", "tcp"] as const) {
      expect(await sandbox.ask("Db.aPP", { transport })).toMatchObject({
        from: "127.0.0.11:53",
        name: "Db.aPP",
        data: ["10.192.0.5"],
        ttl: 2,
      });
      expect(await sandbox.first("docker", { transport })).toBe("172.18.0.2");
      expect(await sandbox.first("www.test", { transport })).toBe("192.0.2.1");
      expect(await sandbox.first("nobody", { transport })).toBe("NXDOMAIN");
      expect(await sandbox.first("servfail.test", { transport })).toBe("SERVFAIL");
      expect((await sandbox.ask("ill", { transport })).rcode).toBe("NOERROR");
      expect(await sandbox.first("5.0.192.10.in-addr.arpa", { type: "PTR", transport })).toBe(
        "db.app",
      );
    }
    expect(await sandbox.ask("big.test")).toMatchObject({ truncated: true });
    expect((await sandbox.ask("big.test", { transport: "tcp" })).data).toHaveLength(100);
    expect(await server.counters()).toMatchObject({ gatesMade: 1, answered: 4, nodata: 2 });
  });
});
