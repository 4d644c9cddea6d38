import { noise } from "@chainsafe/libp2p-noise";
import { yamux } from "@chainsafe/libp2p-yamux";
import { generateKeyPairFromSeed } from "@libp2p/crypto/keys";
import type { Connection, Stream } from "@libp2p/interface";
import { tcp } from "@libp2p/tcp";
import { lpStream } from "@libp2p/utils";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { admittedNoise } from "../../agent/replication/gossip/admitted-noise.ts";
import { AdmissionRules } from "../../agent/replication/gossip/admission-rules.ts";
import { Libp2pMesh } from "../../agent/replication/gossip/libp2p-mesh.ts";
import { frame, KIND } from "../../agent/replication/gossip/request-frame.ts";
import type { SignedNodeClaim } from "../../shared/cluster-state.ts";
import { ClusterId } from "../../shared/ids.ts";
import { Ip } from "../../shared/ip.ts";
import { type Identity, identityFromSeed } from "../../shared/node/identity.ts";
import { silentLog } from "../../shared/ports.ts";
import { signCertificate, signClaim } from "../../shared/trust.ts";
import {
  allConnected,
  allHear,
  ANSWER_MS,
  bytes,
  meet,
  meshContract,
  type MeshHost,
  recordingHandlers,
  text,
  WAIT,
} from "../contract/mesh-contract.ts";
import { gossipTo, RawMember, requestsTo } from "../hostile/raw-member.ts";
import { node } from "../support/cluster.ts";

const cluster = ClusterId.parse("c".repeat(32));
const address = Ip.parse("127.0.0.1");
const seed = (k: number): Uint8Array => new Uint8Array(32).fill(k);
const closing: (() => Promise<void>)[] = [];

type LibHost = MeshHost & { mesh: Libp2pMesh };

interface Authority {
  readonly root: Identity;
  readonly controller: Identity;
  readonly certificate: string;
}

let ours: Authority;
let others: Authority;

async function authority(first: number): Promise<Authority> {
  const root = identityFromSeed(seed(first));
  const controller = identityFromSeed(seed(first + 1));
  const certificate = await signCertificate(root, { cluster, controller: controller.node });
  return { root, controller, certificate };
}

beforeAll(async () => {
  ours = await authority(100);
  others = await authority(110);
});

async function claimOf(k: number, { controller, certificate } = ours): Promise<SignedNodeClaim> {
  const { node: id } = identityFromSeed(seed(k));
  return signClaim(controller, certificate, { cluster, revision: 1, node: { ...node(k), id } });
}

async function host(k: number): Promise<LibHost> {
  const { node: id } = identityFromSeed(seed(k));
  const port = 17900 + k;
  const mesh = new Libp2pMesh(
    {
      identitySeed: seed(k),
      listen: { address, port },
      claim: await claimOf(k),
      rootKey: ours.root.publicKey,
    },
    silentLog,
  );
  closing.push(() => mesh.stop());
  const ids = [1, 2, 3, 4].map((j) => identityFromSeed(seed(j)));
  const own = { heard: [], events: [], tried: [] };
  const handlers = recordingHandlers(own, (peer) =>
    String(ids.findIndex((identity) => identity.node === peer) + 1),
  );
  return { ...own, mesh, handlers, node: id, peer: { node: id, address, port } };
}

async function open(count: number): Promise<LibHost[]> {
  const hosts = await Promise.all(Array.from({ length: count }, (_, i) => host(i + 1)));
  await Promise.all(hosts.map(({ mesh, handlers }) => mesh.start(handlers)));
  return hosts;
}

afterEach(async () => {
  await Promise.all(closing.splice(0).map((close) => close()));
});

describe("libp2p", () => meshContract(open));

describe("libp2p alone", () => {
  test("a port that is taken is named", async () => {
    await open(1);
    const second = await host(1);
    await expect(second.mesh.start(second.handlers)).rejects.toMatchObject({ code: "PORT_TAKEN" });
  });

  test("a peer that ends and comes back is connected again", async () => {
    const [a, b] = (await open(2)) as [LibHost, LibHost];
    meet([a, b]);
    await allConnected([a, b]);
    await b.mesh.stop();
    // It may be dialled once more while it ends: what counts is how it stands afterwards.
    await expect.poll(() => a.mesh.connections(), WAIT).toEqual([]);
    const again = await host(2);
    await again.mesh.start(again.handlers);
    again.mesh.admit({ revision: 1, nodes: [a.node, b.node], revoked: [] });
    await expect.poll(() => a.mesh.connections(), WAIT).toEqual([b.node]);
    expect(a.events.at(-1)).toBe("+2");
  });

  test("a worker that dies is made anew and knows what it was told", async () => {
    const [a, b] = (await open(2)) as [LibHost, LibHost];
    meet([a, b]);
    for (const { mesh } of [a, b]) await mesh.join("t", seed(9));
    await allHear([a, b], "t");
    await a.mesh.crash();
    await expect.poll(() => a.events.includes("-2"), WAIT).toBe(true);
    await expect.poll(() => a.mesh.connections(), WAIT).toEqual([b.node]);
    await allHear([a, b], "t");
    await b.mesh.publish("t", bytes("again"));
    await expect.poll(() => a.heard.map(({ text }) => text), WAIT).toEqual(["again"]);
  });

  test("a claim newer than the state we know of is believed", async () => {
    const [a, b] = (await open(2)) as [LibHost, LibHost];
    a.mesh.admit({ revision: 0, nodes: [a.node], revoked: [] });
    b.mesh.admit({ revision: 1, nodes: [a.node, b.node], revoked: [] });
    b.mesh.wantPeers([a.peer]);
    await allConnected([a, b]);
  });
});

describe("hostile", () => {
  async function stranger(k: number, encrypters: ReturnType<typeof admittedNoise>[]) {
    const made = await createLibp2p({
      privateKey: await generateKeyPairFromSeed("Ed25519", seed(k)),
      transports: [tcp()],
      connectionEncrypters: encrypters,
      streamMuxers: [yamux()],
    });
    closing.push(async () => made.stop());
    return made;
  }
  const where = multiaddr(`/ip4/${address}/tcp/17901`);
  const anybody = (): AdmissionRules => {
    const rules = new AdmissionRules(ours.root.publicKey);
    rules.set({ revision: 0, nodes: [], revoked: [] });
    return rules;
  };

  async function refusedWith(k: number, claim: SignedNodeClaim, counter: string): Promise<void> {
    const [a] = (await open(1)) as [LibHost];
    a.mesh.admit({ revision: 5, nodes: [a.node], revoked: [] });
    const peer = await stranger(k, [admittedNoise({ claim, rules: anybody(), refused: () => {} })]);
    await peer.dial(where).catch(() => {});
    await expect.poll(async () => (await a.mesh.counters())[counter], WAIT).toBe(1);
    expect(a.events).toEqual([]);
    expect(a.mesh.connections()).toEqual([]);
  }

  test("bare Noise, without a claim, is not spoken", async () => {
    const [a] = (await open(1)) as [LibHost];
    const peer = await stranger(4, [noise()]);
    await expect(peer.dial(where)).rejects.toThrow();
    expect(a.events).toEqual([]);
  });

  test("a claim of another cluster's controller", async () =>
    refusedWith(4, await claimOf(4, others), "refusedBadClaim"));

  test("another host's claim", async () => refusedWith(4, await claimOf(2), "refusedWrongPeer"));

  test("a claim of a host that left the table", async () =>
    refusedWith(4, await claimOf(4), "refusedNotAdmitted"));

  /** Host 3, admitted, speaks to host 1 by hand; host 2 is on the topic too. */
  async function hostile() {
    const hosts = (await open(2)) as [LibHost, LibHost];
    const [a, b] = hosts;
    const third = identityFromSeed(seed(3)).node;
    meet(hosts);
    for (const { mesh } of hosts)
      mesh.admit({ revision: 1, nodes: [a.node, b.node, third], revoked: [] });
    for (const { mesh } of hosts) await mesh.join("t", undefined);
    await allHear(hosts, "t");
    const claim = await claimOf(3);
    const member = await RawMember.open({ seed: seed(3), claim, rootKey: ours.root.publicKey });
    closing.push(() => member.close());
    return { a, b, third, member, connection: await member.dial(a.peer) };
  }

  async function counted(host: LibHost, what: string): Promise<number> {
    return (await host.mesh.counters())[what] ?? 0;
  }

  async function goesOn(a: LibHost, b: LibHost): Promise<void> {
    await b.mesh.publish("t", bytes("still here"));
    await expect.poll(() => a.heard.at(-1)?.text, WAIT).toBe("still here");
    expect(text(await b.mesh.request(a.node, bytes("abc"), ANSWER_MS))).toBe("cba");
  }

  test("a member that publishes without end is cut off; the others hear each other", async () => {
    const { a, b, third, member, connection } = await hostile();
    const { say } = await gossipTo(connection);
    let sent = 0;
    const flood = async (): Promise<void> => {
      while (connection.status === "open") {
        const data = () => bytes(`flood ${sent++}`);
        await say(Array.from({ length: 1000 }, () => ({ topic: "t", data: data() })));
      }
    };
    await flood().catch(() => {});
    expect(sent).toBeGreaterThan(50_000);
    await expect.poll(() => counted(a, "floodCut"), WAIT).toBe(1);
    await expect.poll(() => a.mesh.connections(), WAIT).toEqual([b.node]);
    // What passed is a burst and what the seconds allowed; and no more of it has reached the others.
    const heard = b.heard.filter(({ text }) => text.startsWith("flood"));
    expect(heard.length).toBeLessThan(sent / 5);
    // Refused by the other end, which may take a moment to be seen.
    await member.dial(a.peer).catch(() => {});
    await expect.poll(() => counted(a, "refusedFlooding"), WAIT).toBeGreaterThan(0);
    await expect.poll(() => a.mesh.connections(), WAIT).toEqual([b.node]);
    expect(a.events).toContain(`+3`);
    await goesOn(a, b);
    expect(identityFromSeed(seed(3)).node).toBe(third);
  });

  /** 40 MB of questions, whose answers nobody reads. */
  async function askWithoutEnd(connection: Connection): Promise<Stream> {
    const stream = await requestsTo(connection);
    const body = new Uint8Array(100).fill(7);
    const frames = Array.from({ length: 1000 }, (_, id) => {
      const asked = frame(id, KIND.request, body);
      return Uint8Array.of(asked.length, ...asked);
    });
    const thousand = Buffer.concat(frames);
    for (let i = 0; i < 400 && stream.status === "open"; i++) stream.send(thousand);
    return stream;
  }

  test("a member that asks without end fills no memory but its own", async () => {
    const { a, b, connection } = await hostile();
    const stream = await askWithoutEnd(connection);
    for (let i = 0; i < 20; i++) await goesOn(a, b);
    expect(stream.writeBufferLength).toBeGreaterThan(20 << 20);
  });

  test("one that goes on asking so is cut off", async () => {
    const { a, b, connection } = await hostile();
    const flood = async (): Promise<void> => {
      while (connection.status === "open") {
        const stream = await askWithoutEnd(connection);
        // Not its event, which may have come while it was being opened.
        while (stream.status === "open") await delay(20);
      }
    };
    await flood().catch(() => {});
    await expect.poll(() => counted(a, "floodCut"), WAIT).toBe(1);
    await expect.poll(() => a.mesh.connections(), WAIT).toEqual([b.node]);
    await goesOn(a, b);
  });

  test.each<[string, (connection: Connection) => Promise<unknown>]>([
    [
      "a frame that says it is of 2 GB",
      async (connection) => {
        const stream = await requestsTo(connection);
        stream.send(Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0x07));
      },
    ],
    [
      "a frame without its header",
      async (connection) => lpStream(await requestsTo(connection)).write(Uint8Array.of(1, 2)),
    ],
    [
      "gossip that is none",
      async (connection) => {
        const { stream } = await gossipTo(connection);
        await lpStream(stream).write(new Uint8Array(5000).fill(0xff));
      },
    ],
    [
      "streams that are opened and left",
      async (connection) => {
        for (let i = 0; i < 50; i++) await requestsTo(connection).catch(() => {});
      },
    ],
  ])("%s harms nobody", async (_what, attack) => {
    const { a, b, connection } = await hostile();
    await attack(connection).catch(() => {});
    await goesOn(a, b);
  });
});
