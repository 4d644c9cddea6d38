import { expect, test } from "vitest";
import type { Mesh, MeshHandlers, MeshPeer } from "../../agent/replication/gossip/port.ts";
import type { NodeId } from "../../shared/ids.ts";

/** One host of the contract: its mesh, how others dial it, what it heard. */
export interface MeshHost {
  readonly node: NodeId;
  readonly mesh: Mesh;
  readonly peer: MeshPeer;
  readonly heard: { topic: string; from: NodeId; text: string }[];
  /** What `allHear` says, to tell it from what a test says. */
  readonly tried: string[];
  readonly events: string[];
  readonly handlers: MeshHandlers;
}

export const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
export const bytes = (value: string): Uint8Array => new TextEncoder().encode(value);
const key = (k: number): Uint8Array => new Uint8Array(32).fill(k);
/** Generous: a time is never what is tested. */
export const WAIT = { timeout: 60_000 } as const;
/** Of a question that has an answer. */
export const ANSWER_MS = 30_000;
const TOPIC = "overlay-ts/network/test";
const TRIAL = "does anybody hear";
let trials = 0;

/** Answers what it was asked, reversed; refuses `refuse me`; a megabyte for `big`. */
export function recordingHandlers(
  host: Pick<MeshHost, "heard" | "events" | "tried">,
  name: (node: NodeId) => string,
): MeshHandlers {
  return {
    message: (topic, from, body) => {
      if (text(body).startsWith(TRIAL)) host.tried.push(text(body));
      else host.heard.push({ topic, from, text: text(body) });
    },
    request: async (_from, body) => {
      if (text(body) === "refuse me") throw new Error("refused");
      if (text(body) === "big") return new Uint8Array(2 << 20).fill(7);
      return body.toReversed();
    },
    connected: (node) => host.events.push(`+${name(node)}`),
    disconnected: (node) => host.events.push(`-${name(node)}`),
  };
}

export function meet(hosts: readonly MeshHost[], revision = 1): void {
  const nodes = hosts.map(({ node }) => node);
  for (const { mesh } of hosts) mesh.admit({ revision, nodes, revoked: [] });
  for (const { mesh, node } of hosts)
    mesh.wantPeers(hosts.filter((other) => other.node !== node).map(({ peer }) => peer));
}

export function allConnected(hosts: readonly MeshHost[]): Promise<void> {
  return expect
    .poll(() => hosts.map(({ mesh }) => mesh.connections().length), WAIT)
    .toEqual(hosts.map(() => hosts.length - 1));
}

/** What one says on the topic, all others hear: who joined is known to the others a moment later. */
export async function allHear(hosts: readonly MeshHost[], topic: string): Promise<void> {
  for (const { mesh, node } of hosts) {
    const trial = `${TRIAL} ${++trials} of ${topic}`;
    const others = hosts.filter((other) => other.node !== node);
    let said = 0;
    const heard = async (): Promise<boolean[]> => {
      await mesh.publish(topic, bytes(`${trial}: ${++said}`));
      return others.map(({ tried }) => tried.some((each) => each.startsWith(`${trial}:`)));
    };
    await expect.poll(heard, WAIT).toEqual(others.map(() => true));
  }
}

/** What every mesh does. `open` gives that many started hosts that have not met. */
export function meshContract(open: (count: number) => Promise<MeshHost[]>): void {
  test("a message reaches who joined the topic, and nobody else", async () => {
    const [a, b, c] = (await open(3)) as [MeshHost, MeshHost, MeshHost];
    meet([a, b, c]);
    await allConnected([a, b, c]);
    for (const { mesh } of [a, b]) await mesh.join(TOPIC, key(1));
    await allHear([a, b], TOPIC);
    await a.mesh.publish(TOPIC, bytes("hello"));
    await expect.poll(() => b.heard, WAIT).toEqual([{ topic: TOPIC, from: a.node, text: "hello" }]);
    expect(a.heard).toEqual([]);
    expect(c.heard).toEqual([]);
    expect(c.tried).toEqual([]);
  });

  test("with another key nothing is understood, and it is counted", async () => {
    const [a, b] = (await open(2)) as [MeshHost, MeshHost];
    meet([a, b]);
    await allConnected([a, b]);
    await a.mesh.join(TOPIC, key(1));
    await b.mesh.join(TOPIC, key(2));
    let said = 0;
    const unsealed = async (): Promise<number | undefined> => {
      await a.mesh.publish(TOPIC, bytes(`secret ${++said}`));
      return (await b.mesh.counters())["unsealed"];
    };
    await expect.poll(unsealed, WAIT).toBeGreaterThan(0);
    expect(b.heard).toEqual([]);
  });

  test("a request is answered, also with megabytes; a refusal is a refusal", async () => {
    const [a, b] = (await open(2)) as [MeshHost, MeshHost];
    meet([a, b]);
    await allConnected([a, b]);
    expect(text(await a.mesh.request(b.node, bytes("abc"), ANSWER_MS))).toBe("cba");
    const big = await b.mesh.request(a.node, bytes("big"), ANSWER_MS);
    expect(big.length).toBe(2 << 20);
    await expect(a.mesh.request(b.node, bytes("refuse me"), ANSWER_MS)).rejects.toMatchObject({
      code: "UNREACHABLE",
    });
    expect(text(await a.mesh.request(b.node, bytes("still there"), ANSWER_MS))).toBe("ereht llits");
  });

  test("who is not connected cannot be asked", async () => {
    const [a, b] = (await open(2)) as [MeshHost, MeshHost];
    await expect(a.mesh.request(b.node, bytes("x"), 500)).rejects.toMatchObject({
      code: "UNREACHABLE",
    });
  });

  test("after leaving a topic its messages are no longer heard", async () => {
    const [a, b] = (await open(2)) as [MeshHost, MeshHost];
    meet([a, b]);
    await allConnected([a, b]);
    for (const topic of [TOPIC, "other"])
      for (const { mesh } of [a, b]) await mesh.join(topic, undefined);
    await allHear([a, b], TOPIC);
    await allHear([a, b], "other");
    await b.mesh.leave(TOPIC);
    await a.mesh.publish(TOPIC, bytes("gone"));
    await a.mesh.publish("other", bytes("here"));
    await expect.poll(() => b.heard.map((message) => message.text), WAIT).toEqual(["here"]);
  });

  test("a host that is not admitted is refused and counted", async () => {
    const [a, b] = (await open(2)) as [MeshHost, MeshHost];
    a.mesh.admit({ revision: 9, nodes: [a.node], revoked: [] });
    b.mesh.admit({ revision: 9, nodes: [a.node, b.node], revoked: [] });
    b.mesh.wantPeers([a.peer]);
    await expect
      .poll(async () => (await a.mesh.counters())["refusedNotAdmitted"], WAIT)
      .toBeGreaterThan(0);
    expect(a.mesh.connections()).toEqual([]);
  });

  test("revocation cuts the connection and it does not come back", async () => {
    const [a, b] = (await open(2)) as [MeshHost, MeshHost];
    meet([a, b]);
    await allConnected([a, b]);
    a.mesh.admit({ revision: 2, nodes: [a.node], revoked: [b.node] });
    await expect.poll(() => a.events.slice(0, 2), WAIT).toEqual(["+2", "-2"]);
    b.mesh.wantPeers([]);
    b.mesh.wantPeers([a.peer]);
    await expect
      .poll(async () => (await a.mesh.counters())["refusedRevoked"], WAIT)
      .toBeGreaterThan(0);
    expect(a.mesh.connections()).toEqual([]);
  });

  test("stopping is heard by the others, and may be done twice", async () => {
    const [a, b] = (await open(2)) as [MeshHost, MeshHost];
    meet([a, b]);
    await allConnected([a, b]);
    await b.mesh.stop();
    await b.mesh.stop();
    await expect.poll(() => a.mesh.connections(), WAIT).toEqual([]);
    expect(a.events.at(-1)).toBe("-2");
  });
}
