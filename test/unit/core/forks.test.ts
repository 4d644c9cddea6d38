import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ClusterOutput } from "../../../agent/core/tables/cluster-output.ts";
import { ClusterSyncRequest } from "../../../agent/core/tables/cluster-messages.ts";
import { ClusterReplica } from "../../../agent/core/tables/cluster-replica.ts";
import type { HeadedChange } from "../../../agent/core/tables/followed-state.ts";
import { FOLLOWS_CHANGES } from "../../../agent/core/tables/following.ts";
import { decodeMessage } from "../../../agent/core/tables/messages.ts";
import { Tables } from "../../../agent/core/tables/tables.ts";
import { BOUNDS } from "../../../shared/bounds.ts";
import type { SignedState } from "../../../shared/cluster-state.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { type HostDocument, hostSigningBytes } from "../../../shared/documents.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { verifySigned } from "../../../shared/node/signed-state.ts";
import { ed25519Signer, ed25519Verifier, sha256 } from "../../../shared/node/system.ts";
import { headIn } from "../../../shared/state/head.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { BRANCHES, forked } from "../../support/forks.ts";
import { signedHost } from "../../support/signed-cluster.ts";

/** Two states of one revision, both signed: the controller's data were put back, or there are two controllers. */

const { cluster, changeOf, rootOf, stateOf, winner } = await forked();
const first: SignedState = cluster.signed;

/** Hosts that hear of it in whatever order; what one asks is answered at once. */
class Hosts {
  readonly all: { node: NodeId; replica: ClusterReplica; tables: Tables }[];
  #nowMs = 0;

  constructor() {
    this.all = cluster.hosts.slice(0, 3).map(({ node, seed }, k) => {
      const tables = new Tables();
      const replica = new ClusterReplica(
        tables,
        { node, syncPeriodMs: 1500, requestTimeoutMs: 1000 },
        {
          hasher: sha256,
          signer: ed25519Signer(seed),
          verifier: ed25519Verifier(),
          random: seededRandom(k),
          peers: () => this.all.map((host) => host.node).filter((id) => id !== node),
        },
      );
      replica.restore([1, 2, 3].map(wordOf), first, cluster.state);
      return { node, replica, tables };
    });
  }

  hears(k: number, { signed, head }: HeadedChange): void {
    const { replica } = this.all[k]!;
    const { controllerCertificate: _, ...change } = signed;
    const message = { v: 1, kind: "change", revision: head.revision, change };
    this.#run(k, replica.gossip(this.all[(k + 1) % 3]!.node, encodeCbor(message), this.#nowMs));
  }

  /** Comparisons in rounds, as long as they find something. */
  settle(): void {
    for (let round = 0; round < 12; round++) {
      this.#nowMs += 2000;
      for (let k = 0; k < 3; k++) this.#run(k, this.all[k]!.replica.tick(this.#nowMs));
    }
  }

  #run(k: number, outputs: readonly ClusterOutput[]): void {
    const { replica } = this.all[k]!;
    for (const output of outputs)
      switch (output.kind) {
        case "verifyChange": {
          // All of them are the controller's.
          const { from, signed, controllerCertificate } = output;
          const whole = { ...signed, controllerCertificate };
          this.#run(k, replica.changeVerified(from, whole, headIn(signed.jws), this.#nowMs));
          break;
        }
        case "verifyHead": {
          const { from, signed } = output;
          this.#run(k, replica.headVerified(from, signed, headIn(signed.jws), this.#nowMs));
          break;
        }
        case "request": {
          const peer = this.all.findIndex(({ node }) => node === output.to);
          const request = decodeMessage(ClusterSyncRequest, output.bytes, BOUNDS.syncMessageBytes);
          const answer = encodeCbor(this.all[peer]!.replica.answer(this.all[k]!.node, request));
          this.#run(k, replica.answered(output.id, answer, this.#nowMs));
        }
      }
  }
}

function wordOf(k: number): HostDocument {
  const owner = cluster.hosts[k - 1]!;
  const { signature: _, ...body } = signedHost(owner, k, 1);
  const document = { ...body, capabilities: [FOLLOWS_CHANGES] };
  return { ...document, signature: ed25519Signer(owner.seed).sign(hostSigningBytes(document)) };
}

describe("two states of one revision", () => {
  test("the one with the greater root wins on all hosts, whichever they had, once, and it is said", () => {
    const hosts = new Hosts();
    hosts.hears(0, changeOf("a", 2));
    hosts.hears(1, changeOf("b", 2));
    hosts.hears(2, changeOf("a", 2));
    hosts.settle();
    const root = rootOf(winner(2), 2);
    const expected = new Set(stateOf(winner(2), 2).blocks);
    for (const { replica, tables } of hosts.all) {
      expect(replica.point()).toEqual({ revision: 2, root });
      expect(new Set(tables.state!.blocks)).toEqual(expected);
    }
    const met = hosts.all.filter(({ replica }) => replica.counters.forks > 0);
    expect(met.length).toBeGreaterThan(0);
    for (const { replica } of met) {
      expect(replica.counters.forks).toBe(1);
      expect(replica.fork()).toBe(2);
    }
  });

  test("of one that a host hears itself it knows, and keeps what wins", () => {
    const hosts = new Hosts();
    const loser = winner(2) === "a" ? "b" : "a";
    hosts.hears(0, changeOf(winner(2), 2));
    for (let n = 0; n < 3; n++) hosts.hears(0, changeOf(loser, 2));
    expect(hosts.all[0]!.replica.counters).toMatchObject({ forks: 1, badState: 0 });
    expect(hosts.all[0]!.replica.point()?.root).toBe(rootOf(winner(2), 2));
  });

  test("a later revision of either ends it, and that there were two is known by its base", () => {
    const hosts = new Hosts();
    hosts.hears(0, changeOf("a", 2));
    hosts.hears(0, changeOf("b", 3));
    expect(hosts.all[0]!.replica.counters.forks).toBe(1);
    hosts.hears(1, changeOf("b", 2));
    hosts.hears(1, changeOf("b", 3));
    hosts.settle();
    for (const { replica } of hosts.all)
      expect(replica.point()).toEqual({ revision: 3, root: rootOf("b", 3) });
  });

  test("in any order, doubled and on any hosts they end in one and the same state, which was signed", () => {
    const told = fc.record({
      host: fc.nat(2),
      branch: fc.constantFrom(...BRANCHES),
      revision: fc.constantFrom(2, 3),
    });
    fc.assert(
      fc.property(fc.array(told, { minLength: 1, maxLength: 8 }), (all) => {
        const hosts = new Hosts();
        for (const { host, branch, revision } of all) hosts.hears(host, changeOf(branch, revision));
        hosts.settle();
        const { revision } = hosts.all[0]!.tables.state!;
        const roots = hosts.all.map(({ replica }) => replica.point()?.root);
        expect(new Set(roots).size).toBe(1);
        const branch = BRANCHES.find((each) => revision > 1 && rootOf(each, revision) === roots[0]);
        const signed = branch === undefined ? cluster.state : stateOf(branch, revision);
        for (const { tables } of hosts.all) {
          expect(tables.state!.revision).toBe(signed.revision);
          expect(new Set(tables.state!.blocks)).toEqual(new Set(signed.blocks));
        }
      }),
      { numRuns: 60 },
    );
  });

  test("a host that is put at the winning one can prove it", async () => {
    const hosts = new Hosts();
    hosts.hears(0, changeOf("a", 2));
    hosts.hears(0, changeOf("b", 2));
    hosts.hears(1, changeOf(winner(2), 2));
    hosts.settle();
    const proof = hosts.all[0]!.replica.proof()!;
    expect(await verifySigned(cluster.root.publicKey, proof)).toMatchObject({ revision: 2 });
  });
});
