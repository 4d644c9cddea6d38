import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Identity, identityFromSeed } from "../../shared/node/identity.ts";
import { sha256, systemClock, systemRandom } from "../../shared/node/system.ts";
import { Controller } from "../../controller/controller.ts";
import { newCluster } from "../../controller/core/record.ts";
import { MemoryStore } from "../fakes/memory-controller-store.ts";
import { ControlClient } from "../../controller/wire/client.ts";
import { Libp2pChannel } from "../../controller/wire/libp2p-channel.ts";
import { ControlServer } from "../../controller/wire/server.ts";
import { toBase64Url } from "../../shared/base64url.ts";
import { Ip } from "../../shared/ip.ts";
import { silentLog } from "../../shared/ports.ts";
import { openSealed, sealKeyPair } from "../../shared/sealed-box.ts";
import { checkRootKey, parseToken } from "../../shared/token.ts";
import { signCertificate, verifyClaim, verifyState } from "../../shared/trust.ts";
import { node } from "../support/cluster.ts";
import { storeRecord } from "../support/stored-record.ts";

const address = Ip.parse("127.0.0.1");
const port = 17952;
const seed = (k: number): Uint8Array => new Uint8Array(32).fill(k);
const closing: (() => Promise<void>)[] = [];

let root: Identity;
let controllerId: Identity;
let controller: Controller;

async function start(listenPort = port): Promise<ControlServer> {
  const server = new ControlServer(
    { seed: seed(2), address, port: listenPort },
    controller,
    silentLog,
  );
  await server.start();
  closing.push(() => server.stop());
  return server;
}

function client(k: number, peer = controllerId.node): ControlClient {
  const made = new ControlClient(new Libp2pChannel(seed(k)), () => ({ address, port, peer }));
  closing.push(() => made.close());
  return made;
}

async function facts(k: number) {
  const { publicKey } = sealKeyPair(sha256, seed(k));
  return { ...node(k), sealKey: toBase64Url(publicKey) };
}

async function join(k: number, token: string) {
  const { id, secret } = parseToken(token);
  const request = { v: 1, kind: "join", id, secret, facts: await facts(k) } as const;
  return client(k).request(request, "joined");
}

beforeEach(async () => {
  root = identityFromSeed(seed(1));
  controllerId = identityFromSeed(seed(2));
  const store = new MemoryStore();
  const context = { wallMs: 0, random: systemRandom };
  const record = newCluster(
    { controllerPeer: controllerId.node, controllerNode: controllerId.node, address },
    context,
  );
  await storeRecord(store, record);
  const certificate = await signCertificate(root, {
    cluster: record.state.cluster,
    controller: controllerId.node,
  });
  controller = new Controller(
    { controller: controllerId, certificate, rootKey: root.publicKey },
    { store, clock: systemClock, random: systemRandom, hasher: sha256, log: silentLog },
  );
  await start();
});

afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

const token = async (uses = 10): Promise<string> =>
  (await controller.createToken({ ttlMs: 60_000, uses })).token;

describe("the controller's port", () => {
  test("a host joins with a token and can prove what it was given", async () => {
    const text = await token();
    const { answer, controller: peer } = await join(5, text);
    expect(peer).toBe(controllerId.node);
    checkRootKey(sha256, parseToken(text), answer.rootKey);
    const state = await verifyState(answer.rootKey, answer.state);
    const claim = await verifyClaim(answer.rootKey, answer.claim);
    const self = identityFromSeed(seed(5));
    expect(state.nodes.map(({ id }) => id)).toEqual([self.node]);
    expect(claim.node).toEqual(state.nodes[0]);
  });

  test("a token of one use admits one host, and that host again", async () => {
    const text = await token(1);
    await join(5, text);
    await expect(join(6, text)).rejects.toThrow(/used up/);
    const { answer } = await join(5, text);
    const state = await verifyState(answer.rootKey, answer.state);
    expect(state.nodes).toHaveLength(1);
  });

  test("strangers may only join", async () => {
    const asked = client(7).request({ v: 1, kind: "state", revision: 0 }, "state");
    await expect(asked).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
  });

  test("network, block and key in two exchanges; the key opens for the asker alone", async () => {
    const text = await token();
    await join(5, text);
    const host = client(5);
    const { answer: made } = await host.request(
      {
        v: 1,
        kind: "createNetwork",
        network: {
          name: "app",
          subnets: [],
          internal: false,
          attachable: true,
          labels: {},
          driverOptions: {},
        },
      },
      "network",
    );
    const { answer } = await host.request(
      { v: 1, kind: "allotBlock", network: made.network.id, family: 4 },
      "block",
    );
    const key = openSealed(sealKeyPair(sha256, seed(5)).secretKey, answer.key.sealed);
    expect(key).toHaveLength(32);
    expect(() => openSealed(sealKeyPair(sha256, seed(6)).secretKey, answer.key.sealed)).toThrow(
      /another host/,
    );
    const state = await verifyState(root.publicKey, answer.state);
    expect(state.blocks).toEqual([answer.block]);
  });

  test("who watches is told the newest revision at once and each that follows", async () => {
    await join(5, await token());
    const stop = new AbortController();
    const revisions: number[] = [];
    const watching = client(5).watch(
      (news) => void revisions.push("revision" in news ? news.revision : 0),
      stop.signal,
    );
    await expect.poll(() => revisions).toHaveLength(1);
    await join(6, await token());
    await expect.poll(() => revisions).toEqual([revisions[0], (revisions[0] ?? 0) + 1]);
    stop.abort();
    await expect(watching).rejects.toThrow();
  });

  test("another's key at the controller's address is not the controller", async () => {
    const impostor = identityFromSeed(seed(9)).node;
    const asked = client(5, impostor).request({ v: 1, kind: "state", revision: 0 }, "state");
    await expect(asked).rejects.toMatchObject({ code: "UNREACHABLE" });
  });

  test("a port that is taken is named", async () => {
    await expect(start()).rejects.toMatchObject({ code: "PORT_TAKEN" });
  });

  test("a removed host is a stranger, its networks have new keys", async () => {
    await join(5, await token());
    await controller.removeNode("h5");
    const asked = client(5).request({ v: 1, kind: "state", revision: 0 }, "state");
    await expect(asked).rejects.toMatchObject({ code: "UNAUTHENTICATED" });
  });
});
