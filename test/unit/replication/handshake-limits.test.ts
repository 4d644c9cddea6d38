import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { DEFAULT_DIAL_TIMEOUTS } from "../../../agent/replication/gossip/dialling.ts";
import { MeshNode } from "../../../agent/replication/gossip/mesh-node.ts";
import { Libp2pChannel } from "../../../controller/wire/libp2p-channel.ts";
import { Ip } from "../../../shared/ip.ts";
import { identityFromSeed } from "../../../shared/node/identity.ts";

/** Takes connections and says nothing, as the kernel does for a process that has no processor. */
let busy: Server;
let port: number;
let connections: number;
const address = Ip.parse("127.0.0.1");
const seed = new Uint8Array(32).fill(7);

beforeEach(async () => {
  connections = 0;
  busy = createServer((socket) => {
    connections++;
    socket.on("error", () => {});
  }).listen(0, "127.0.0.1");
  await once(busy, "listening");
  ({ port } = busy.address() as { port: number });
});

afterEach(() => {
  vi.restoreAllMocks();
  busy.close();
});

test("a handshake is ended by the mesh's own limit, and by none of libp2p's", async () => {
  const mesh = new MeshNode({
    identitySeed: seed,
    listen: { address, port: 0 },
    claim: { jws: "", controllerCertificate: "" },
    rootKey: new Uint8Array(32),
  });
  await mesh.start({
    message: () => {},
    request: () => Promise.reject(new Error("nothing is asked")),
    connected: () => {},
    disconnected: () => {},
  });
  const limits = vi.spyOn(AbortSignal, "timeout");
  mesh.wantPeers([{ node: identityFromSeed(new Uint8Array(32).fill(8)).node, address, port }]);
  await vi.waitFor(() => expect(connections).toBe(1));
  const asked = limits.mock.calls.map(([ms]) => ms);
  await mesh.stop();
  const { firstMs, mostMs } = DEFAULT_DIAL_TIMEOUTS;
  expect(asked).toContain(firstMs);
  expect(asked.filter((ms) => ms !== firstMs && ms < mostMs)).toEqual([]);
});

test("a controller's handshake outlives the request that began it: the next one finds it further", async () => {
  const channel = new Libp2pChannel(seed);
  const ask = (): Promise<unknown> =>
    channel.exchange({ address, port, peer: undefined }, new Uint8Array(1), 100);
  await expect(ask()).rejects.toMatchObject({ name: "TimeoutError" });
  await expect(ask()).rejects.toMatchObject({ name: "TimeoutError" });
  await channel.close();
  expect(connections).toBe(1);
});
