import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { RtNetlink } from "../../agent/kernel/netlink/socket.ts";
import { LinuxDataPathProof } from "../../agent/kernel/proof/data-path-proof.ts";
import {
  ANSWERS_IN_IPSEC,
  desiredIpsecProof,
  desiredProof,
} from "../../agent/core/liveness/proofs.ts";
import { Tables } from "../../agent/core/tables/tables.ts";
import { Ip } from "../../shared/ip.ts";
import { app, clusterState, hostDocument, nodeId, vtepOf } from "../support/cluster.ts";
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

/** Both are on a network of IPsec, and say that they answer there. */
function tablesInIpsec(): Tables {
  const tables = new Tables();
  tables.mergeState(clusterState(2, { networks: [{ ...app, encryption: "ipsec" }] }));
  for (const k of [1, 2])
    tables.mergeHost(hostDocument(k, { capabilities: [ANSWERS_IN_IPSEC], hosting: [app.id] }));
  return tables;
}

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
    expect((await proofs[0]!.probe(peer, 2000, 128)).roundTripMs).toBeGreaterThan(0);
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

  test("who comes and who goes costs its own entries, and nothing is dumped", async () => {
    const [proof] = proofs as [LinuxDataPathProof];
    const of = (members: number) => desiredProof(clusterState(members), nodeId(1))!;
    const dumps = vi.spyOn(RtNetlink.prototype, "dump");
    await proof.set(of(4), of(2));
    await proof.set(of(3), of(4));
    expect(dumps).not.toHaveBeenCalled();
    dumps.mockRestore();
    expect(await proof.faults(of(3))).toEqual([]);
    expect(await proof.faults(of(4))).not.toEqual([]);
    // What does not stand is put back with a look, and not by what was written.
    await proof.set(of(2));
    expect(await proof.faults(of(2))).toEqual([]);
  });

  test("through IPsec's port it stands beside the one in clear, and each says only what its own port carries", async () => {
    const ipsec = [1, 2].map(
      (k) =>
        new LinuxDataPathProof({
          netnsDirectory: join(hosts.directory, `netns${k}`),
          hostNetns: join(hosts.directory, `h${k}`),
          of: "ipsec",
        }),
    );
    const h2 = join(hosts.directory, "h2");
    try {
      for (const [i, proof] of ipsec.entries()) {
        const other = 2 - i;
        // Without policies here: what of it leaves a host is encrypted by the port alone.
        const remote = new Map([[nodeId(other), vtepOf(other)]]);
        const paths = { encryption: "ipsec", local: vtepOf(i + 1), remote } as const;
        await proof.set(desiredIpsecProof(tablesInIpsec(), nodeId(i + 1), paths)!);
      }
      const answers = async () =>
        (await Promise.all([proofs[0]!, ipsec[0]!].map((proof) => proof.probe(peer, 1000)))).map(
          ({ roundTripMs }) => roundTripMs !== undefined,
        );
      expect(await answers()).toEqual([true, true]);
      hosts.in(h2, "nft add table inet block");
      hosts.in(h2, "nft add chain inet block in { type filter hook input priority -400 ; }");
      hosts.in(h2, "nft add rule inet block in udp dport 7950 drop");
      expect(await answers()).toEqual([true, false]);
      hosts.in(h2, "nft flush chain inet block in");
      expect(await answers()).toEqual([true, true]);
    } finally {
      for (const proof of ipsec) {
        await proof.remove();
        await proof.close();
      }
    }
    expect((await proofs[0]!.probe(peer, 1000)).roundTripMs).toBeGreaterThan(0);
  });

  test("a plain file where its namespace was is no namespace: it is pinned again", async () => {
    await proofs[0]!.remove();
    writeFileSync(join(hosts.directory, "netns1", "proof"), "");
    await proofs[0]!.set(desiredProof(clusterState(2), nodeId(1))!);
    expect((await proofs[0]!.probe(peer, 2000)).roundTripMs).toBeGreaterThan(0);
  });

  test("a deleted device is named, and made again with the next word", async () => {
    const netns = join(hosts.directory, "netns1", "proof");
    hosts.in(netns, "ip link del vx0");
    const desired = desiredProof(clusterState(2), nodeId(1))!;
    expect(await proofs[0]!.faults(desired)).toEqual(["its VXLAN device is missing"]);
    await proofs[0]!.set(desired);
    expect((await proofs[0]!.probe(peer, 2000)).roundTripMs).toBeGreaterThan(0);
  });
});
