import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { reachOthers } from "../../../agent/cli/other-hosts.ts";
import type { Status } from "../../../agent/api/status.ts";
import { UnixHttpServer } from "../../../shared/node/unix-http.ts";

/** Takes connections and says nothing, as the kernel does for an agent that has no processor. */
let busy: Server;
let port: number;
let directory: string;
let agent: UnixHttpServer;
/** Of h1, in the state; nobody listens on others than 127.0.0.2. */
let address: string;
let roundTripMs: number | undefined;

beforeEach(async () => {
  busy = createServer(() => {}).listen(0, "127.0.0.2");
  await once(busy, "listening");
  ({ port } = busy.address() as { port: number });
  [address, roundTripMs] = ["127.0.0.2", 1];
  directory = mkdtempSync(join(tmpdir(), "ovt-other-hosts-"));
  agent = new UnixHttpServer(join(directory, "agent.sock"), {
    "GET /v1/nodes": async () => [
      { name: "h1", address, self: false },
      // We are no sign of life of others.
      { name: "h2", address: "127.0.0.2", self: true },
    ],
    "POST /v1/probe": async () => [{ name: "h1", roundTripMs }],
  });
  await agent.start();
});

afterEach(async () => {
  await agent.stop();
  busy.close();
  rmSync(directory, { recursive: true, force: true });
});

function reach(connected: boolean | undefined): Promise<string | undefined> {
  const context = { dataDirectory: directory, runDirectory: directory, json: false };
  const peers = connected === undefined ? [] : [{ name: "h1", connected }];
  const status = async () => ({ peers }) as unknown as Pick<Status, "peers">;
  return reachOthers(context, status, 50, port);
}

test("a host alone has nobody to reach, and one that is connected and proven is reached", async () => {
  roundTripMs = undefined;
  expect(await reach(undefined)).toBeUndefined();
  roundTripMs = 1;
  expect(await reach(true)).toBeUndefined();
});

test("an open port without a connection is a host that is slow, and no failure", async () => {
  expect(await reach(false)).toMatch(
    /mesh port 7947\/tcp of h1 is open, and no connection stands .*busy: this one goes on trying.*status/,
  );
});

test("a port that nobody has is not reached, and says so", async () => {
  address = "127.0.0.3";
  await expect(reach(false)).rejects.toThrow(/mesh port 7947\/tcp of h1 cannot be reached/);
});

test("a data path that does not answer is a failure, whatever the mesh does", async () => {
  roundTripMs = undefined;
  await expect(reach(true)).rejects.toThrow(/no answer over VXLAN .* from h1/);
});
