import { describe, expect, test } from "vitest";
import type { ClusterOutput } from "../../../agent/core/tables/cluster-output.ts";
import { ClusterReplica } from "../../../agent/core/tables/cluster-replica.ts";
import { ClusterSyncRequest } from "../../../agent/core/tables/cluster-messages.ts";
import { decodeMessage } from "../../../agent/core/tables/messages.ts";
import {
  DEFAULT_REPLICA_OPTIONS,
  type Output,
  Replica,
} from "../../../agent/core/tables/replica.ts";
import { BOUNDS } from "../../../shared/bounds.ts";
import { encodeCbor } from "../../../shared/codec.ts";
import { sha256 } from "../../../shared/node/system.ts";
import {
  app,
  clusterState,
  endpoint,
  hashSigner,
  hashVerifier,
  nodeId,
} from "../../support/cluster.ts";
import { seededRandom } from "../../support/seeded-random.ts";

const MINUTE_MS = 60_000;
const { syncPeriodMs } = DEFAULT_REPLICA_OPTIONS;

interface Machine {
  readonly networks: Replica;
  readonly cluster: ClusterReplica;
}

/** Hosts on one network, on a clock of their own; a question is answered at once. */
class Hosts {
  readonly machines: readonly Machine[];
  readonly peers: number[][];
  nowMs = 0;
  /** Of both tables, since it was set to 0. */
  questions = 0;
  /** Whom gossip does not reach. */
  deaf: number | undefined;

  constructor(count: number) {
    this.peers = Array.from({ length: count }, (_, i) =>
      Array.from({ length: count }, (_, j) => j).filter((j) => j !== i),
    );
    this.machines = this.peers.map((_, i) => this.#machine(i, count));
    for (const { networks } of this.machines) networks.join(app.id, 0);
  }

  #machine(i: number, count: number): Machine {
    const node = nodeId(i + 1);
    const state = clusterState(count);
    const signed = { jws: "", controllerCertificate: "" };
    const modules = {
      hasher: sha256,
      signer: hashSigner(node),
      verifier: hashVerifier,
      random: seededRandom(i),
      peers: () => this.peers[i]!.map((j) => nodeId(j + 1)),
    };
    const networks = new Replica({ ...DEFAULT_REPLICA_OPTIONS, node }, modules);
    const cluster = new ClusterReplica(
      networks.tables,
      { ...DEFAULT_REPLICA_OPTIONS, node },
      modules,
    );
    cluster.restore([], signed, state);
    cluster.controllerTold(signed, state, 0);
    return { networks, cluster };
  }

  #of(node: string): Machine {
    return this.machines.find((_, i) => nodeId(i + 1) === node)!;
  }

  carryOut(i: number, outputs: readonly (Output | ClusterOutput)[]): void {
    const { networks } = this.machines[i]!;
    for (const output of outputs) {
      if (output.kind === "publish" && "network" in output)
        for (const j of this.peers[i]!)
          if (j !== this.deaf) {
            const heard = this.machines[j]!.networks;
            this.carryOut(j, heard.gossip(app.id, nodeId(i + 1), output.bytes, this.nowMs));
          }
      if (output.kind === "request") {
        this.questions++;
        const answer = this.#of(output.to).networks.answer(nodeId(i + 1), output.bytes);
        this.carryOut(i, networks.answered(output.id, answer, this.nowMs));
      }
    }
  }

  #carryOutCluster(i: number, outputs: readonly ClusterOutput[]): void {
    for (const output of outputs)
      if (output.kind === "request") {
        this.questions++;
        const max = BOUNDS.syncMessageBytes;
        const request = decodeMessage(ClusterSyncRequest, output.bytes, max);
        const answer = this.#of(output.to).cluster.answer(nodeId(i + 1), request);
        const { cluster } = this.machines[i]!;
        this.#carryOutCluster(i, cluster.answered(output.id, encodeCbor(answer), this.nowMs));
      }
  }

  /** @returns when `until` was so; undefined: not within that time. */
  run(forMs: number, until: () => boolean = () => false): number | undefined {
    const endMs = this.nowMs + forMs;
    while (!until()) {
      const next = this.machines.map(({ networks, cluster }) =>
        Math.min(networks.nextMs() ?? Infinity, cluster.nextMs()),
      );
      const nextMs = Math.min(...next);
      if (nextMs > endMs) {
        this.nowMs = endMs;
        return undefined;
      }
      this.nowMs = nextMs;
      const i = next.indexOf(nextMs);
      const { networks, cluster } = this.machines[i]!;
      this.carryOut(i, networks.tick(nextMs));
      this.#carryOutCluster(i, cluster.tick(nextMs));
    }
    return this.nowMs;
  }

  start(i: number, container: number): void {
    const { networks } = this.machines[i]!;
    this.carryOut(i, networks.change(app.id, [endpoint(i + 1, container)], [], this.nowMs));
  }

  has(i: number, of: number, container: number): boolean {
    const { tables } = this.machines[i]!.networks;
    const held = tables.documents(app.id).get(nodeId(of + 1))?.endpoints ?? [];
    return held.some(({ id }) => id === endpoint(of + 1, container).id);
  }
}

/** Nothing happened for long. */
function quiet(count: number): Hosts {
  const hosts = new Hosts(count);
  hosts.run(MINUTE_MS);
  hosts.questions = 0;
  return hosts;
}

describe("comparisons", () => {
  test.each([2, 3, 10])("while all is equal %i hosts ask ten times a minute and table", (count) => {
    const hosts = quiet(count);
    hosts.run(10 * MINUTE_MS);
    const each = hosts.questions / 10 / count / 2;
    expect(each).toBeLessThan(11);
    expect(each).toBeGreaterThan(9);
  });

  test("who has news asks as often as ever, until it is found everywhere", () => {
    const hosts = quiet(3);
    hosts.start(0, 5);
    hosts.questions = 0;
    hosts.run(3 * syncPeriodMs);
    // Of three hosts on the network, once a period each; and of the cluster's table as before.
    expect(hosts.questions).toBeGreaterThanOrEqual(3 * 2);
  });

  test.each([2, 3, 10])(
    "of %i hosts that were quiet, one that gossip does not reach is found by the others' questions",
    (count) => {
      for (let deaf = 1; deaf < Math.min(count, 6); deaf++) {
        const hosts = quiet(count);
        hosts.deaf = deaf;
        hosts.start(0, 5);
        const begunMs = hosts.nowMs;
        const foundMs = hosts.run(MINUTE_MS, () => hosts.has(deaf, 0, 5));
        // Its own next question alone would come after 4.5 periods at worst.
        expect(foundMs! - begunMs).toBeLessThan(3 * syncPeriodMs);
      }
    },
  );

  test("after a connection came back it is asked as often as ever", () => {
    const hosts = quiet(2);
    const peers = hosts.peers.map((each) => [...each]);
    for (const each of hosts.peers) each.length = 0;
    hosts.start(0, 5);
    hosts.run(MINUTE_MS);
    for (const [i, each] of peers.entries()) hosts.peers[i]!.push(...each);
    for (const { networks } of hosts.machines) networks.connected(hosts.nowMs);
    const begunMs = hosts.nowMs;
    const foundMs = hosts.run(MINUTE_MS, () => hosts.has(1, 0, 5));
    expect(foundMs! - begunMs).toBeLessThan(1.5 * syncPeriodMs);
  });

  test("a host that is alone on a network does not look for others several times a second", () => {
    const hosts = new Hosts(2);
    for (const each of hosts.peers) each.length = 0;
    let looks = 0;
    const { networks } = hosts.machines[0]!;
    for (let ms = networks.nextMs()!; ms < MINUTE_MS; ms = networks.nextMs()!) {
      networks.tick(ms);
      looks++;
    }
    expect(looks).toBeLessThan(MINUTE_MS / syncPeriodMs + 10);
    hosts.peers[0]!.push(1);
    networks.peersChanged(MINUTE_MS);
    expect(networks.nextMs()! - MINUTE_MS).toBeLessThan(syncPeriodMs / 4);
  });
});
