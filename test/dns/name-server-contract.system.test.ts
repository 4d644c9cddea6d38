import { afterEach, beforeEach, describe } from "vitest";
import { LinuxNameServer } from "../../agent/names/server/linux-name-server.ts";
import { silentLog } from "../../shared/ports.ts";
import { nameServerContract } from "../contract/name-server-contract.ts";
import { DnsSandbox } from "../support/dns-sandbox.ts";

describe("Linux", () => {
  let server: LinuxNameServer;
  let sandboxes: DnsSandbox[];
  beforeEach(async () => {
    sandboxes = [];
    server = new LinuxNameServer({}, silentLog);
    await server.start();
  });
  afterEach(async () => {
    await server.stop("handOver");
    for (const sandbox of sandboxes) await sandbox.close();
  });
  nameServerContract(() => ({
    server,
    container: async () => {
      const sandbox = await DnsSandbox.open();
      sandboxes.push(sandbox);
      return {
        sandbox: (scope) => sandbox.sandbox(scope),
        ask: async (name, type = "A") => {
          const { rcode, data } = await sandbox.ask(name, { type });
          return rcode === "NXDOMAIN" ? undefined : data;
        },
      };
    },
  }));
});
