import type { HeadedChange } from "../../agent/core/tables/followed-state.ts";
import { StateSigner } from "../../controller/state-signer.ts";
import type { ClusterState } from "../../shared/cluster-state.ts";
import { Cidr } from "../../shared/ip.ts";
import { sha256 } from "../../shared/node/system.ts";
import { headIn } from "../../shared/state/head.ts";
import { app } from "./cluster.ts";
import { type SignedCluster, signedCluster } from "./signed-cluster.ts";

export const BRANCHES = ["a", "b"] as const;
export type Branch = (typeof BRANCHES)[number];

/** A cluster whose controller signed revisions 2 and 3 twice, from the same first one. */
export async function forked(): Promise<{
  readonly cluster: SignedCluster;
  readonly stateOf: (branch: Branch, revision: number) => ClusterState;
  readonly changeOf: (branch: Branch, revision: number) => HeadedChange;
  readonly rootOf: (branch: Branch, revision: number) => string;
  /** By the greater root. */
  readonly winner: (revision: number) => Branch;
}> {
  const cluster = await signedCluster();
  const { controller, certificate, state: first, hosts } = cluster;
  const stateOf = (branch: Branch, revision: number): ClusterState => {
    const subnet = branch === "a" ? 100 : 150;
    const more = Array.from({ length: revision - 1 }, (_, n) => ({
      network: app.id,
      node: hosts[n % 3]!.node,
      block: Cidr.parse(`10.192.${subnet + n}.0/24`),
    }));
    return { ...first, revision, blocks: [...first.blocks, ...more] };
  };
  const changes = new Map<string, HeadedChange>();
  for (const branch of BRANCHES) {
    const signer = new StateSigner({ controller, certificate }, sha256);
    signer.goesOnFrom(first);
    let held = signer.pointOf(first);
    for (const revision of [2, 3]) {
      const state = stateOf(branch, revision);
      signer.goesOnFrom(state);
      const { jws, changes: told } = await signer.sign(state, { held });
      const signed = { ...told![0]!, controllerCertificate: certificate };
      changes.set(`${branch}${revision}`, { signed, head: headIn(jws) });
      held = signer.pointOf(state);
    }
  }
  const changeOf = (branch: Branch, revision: number): HeadedChange =>
    changes.get(`${branch}${revision}`)!;
  const rootOf = (branch: Branch, revision: number): string => changeOf(branch, revision).head.root;
  const winner = (revision: number): Branch =>
    rootOf("a", revision) > rootOf("b", revision) ? "a" : "b";
  return { cluster, stateOf, changeOf, rootOf, winner };
}
