import { expect, test } from "vitest";
import { FollowedState } from "../../../agent/core/tables/followed-state.ts";
import { StateSigner } from "../../../controller/state-signer.ts";
import type { ClusterState } from "../../../shared/cluster-state.ts";
import { headIn } from "../../../shared/state/head.ts";
import { countingHasher } from "../../support/counting-hasher.ts";
import { signedCluster } from "../../support/signed-cluster.ts";
import { largestStates } from "../../support/states.ts";

const { controller, certificate } = await signedCluster();

/** What a host computes for one change at the bounds of a cluster: of all that it holds it looks at what changed. */
test("at 1,000 hosts, 4,000 networks, 40,000 blocks a change hashes one bucket, reads one object and leaves the rest", async () => {
  const counted = countingHasher();
  const signer = new StateSigner({ controller, certificate }, counted.hasher);
  const [largest, given] = largestStates();
  const before: ClusterState = { ...largest, blocks: largest.blocks.slice(1) };
  const followed = new FollowedState(counted.hasher);
  followed.whole({ jws: "", controllerCertificate: "" }, before);
  signer.goesOnFrom(before);
  const held = { revision: before.revision, root: followed.root()! };
  const after = { ...before, revision: given.revision, networks: [...before.networks] };
  after.networks[7] = { ...after.networks[7]!, keyEpoch: 2 };
  signer.goesOnFrom(after);
  const { jws, changes } = await signer.sign(after, { held });
  counted.reset();
  const signed = { ...changes![0]!, controllerCertificate: certificate };
  const next = followed.follow({ signed, head: headIn(jws) });
  if (next.kind !== "followed") throw new Error(`it is ${next.kind}`);
  // The change, the key, its bucket, the root.
  expect(counted.calls).toBe(4);
  expect(counted.bytes).toBeLessThan(48 * 1024);
  const { state } = next;
  expect(state.networks.filter((network) => network.keyEpoch === 2)).toHaveLength(1);
  const kept = new Set<unknown>([...before.nodes, ...before.networks, ...before.blocks]);
  const read = [...state.nodes, ...state.networks, ...state.blocks].filter((one) => !kept.has(one));
  expect(read).toHaveLength(1);
});
