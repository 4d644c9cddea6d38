import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LinuxDataPathProof } from "../../agent/kernel/data-path-proof.ts";
import { desiredProof } from "../../agent/proving.ts";
import { Ip } from "../../shared/ip.ts";
import { clusterState, nodeId } from "../support/cluster.ts";
import { TestHosts } from "../support/hosts.ts";

let hosts: TestHosts;
let proofs: LinuxDataPathProof[];

beforeEach(async () => {
  hosts = new TestHosts(2);
  proofs = [];
  for (const k of [1, 2]) {
    const proof = new LinuxDataPathProof({
      netnsDirectory: join(hosts.directory, `netns${k}`),
      hostNetns: join(hosts.directory, `h${k}`),
    });
    proofs.push(proof);
    await proof.set(desiredProof(clusterState(2), nodeId(k))!);
  }
});

afterEach(async () => {
  for (const proof of proofs) {
    await proof.remove();
    await proof.close();
  }
  hosts.close();
});

const peer = Ip.parse("198.18.0.2");

describe("the data-path proof", () => {
  test("the peer's kernel answers at the full size of a container's packet", async () => {
    const result = await proofs[0]!.probe(peer, 2000);
    expect(result).toMatchObject({ address: peer, bytes: 1450 });
    expect(result.roundTripMs).toBeGreaterThan(0);
  });

  test("nobody there: no answer, and no error", async () => {
    const result = await proofs[0]!.probe(Ip.parse("198.18.0.77"), 300);
    expect(result.roundTripMs).toBeUndefined();
  });

  test("an answer that came while this process had no CPU is an answer", async () => {
    const probing = proofs[0]!.probe(peer, 20);
    const untilMs = performance.now() + 200;
    while (performance.now() < untilMs);
    expect((await probing).roundTripMs).toBeGreaterThan(0);
  });

  test("a path that carries only small packets does not pass", async () => {
    hosts.in(join(hosts.directory, "switch"), "ip link set p2 mtu 1400");
    hosts.in(join(hosts.directory, "switch"), "ip link set sw mtu 1400");
    expect((await proofs[0]!.probe(peer, 500)).roundTripMs).toBeUndefined();
  });

  test("a blocked port does not pass; a peer that left is not asked any more", async () => {
    const h2 = join(hosts.directory, "h2");
    hosts.in(h2, "nft add table inet block");
    hosts.in(h2, "nft add chain inet block in { type filter hook input priority -400 ; }");
    hosts.in(h2, "nft add rule inet block in udp dport 7948 drop");
    expect((await proofs[0]!.probe(peer, 500)).roundTripMs).toBeUndefined();
    hosts.in(h2, "nft delete table inet block");
    expect((await proofs[0]!.probe(peer, 2000)).roundTripMs).toBeGreaterThan(0);
    await proofs[0]!.set(desiredProof(clusterState(1), nodeId(1))!);
    expect((await proofs[0]!.probe(peer, 300)).roundTripMs).toBeUndefined();
  });

  test("a plain file where its namespace was is no namespace: it is pinned again", async () => {
    await proofs[0]!.remove();
    writeFileSync(join(hosts.directory, "netns1", "proof"), "");
    await proofs[0]!.set(desiredProof(clusterState(2), nodeId(1))!);
    expect((await proofs[0]!.probe(peer, 2000)).roundTripMs).toBeGreaterThan(0);
  });

  test("a deleted device is made again with the next word", async () => {
    const netns = join(hosts.directory, "netns1", "proof");
    hosts.in(netns, "ip link del vx0");
    const desired = desiredProof(clusterState(2), nodeId(1))!;
    await expect(proofs[0]!.set(desired)).rejects.toThrow(/gone/);
    await proofs[0]!.set(desired);
    expect((await proofs[0]!.probe(peer, 2000)).roundTripMs).toBeGreaterThan(0);
  });
});
