import { setTimeout as delay } from "node:timers/promises";
import { FollowedState } from "../../agent/core/tables/followed-state.ts";
import { StateSigner } from "../../controller/state-signer.ts";
import type { ClusterState } from "../../shared/cluster-state.ts";
import { BOUNDS } from "../../shared/bounds.ts";
import { encodeCbor } from "../../shared/codec.ts";
import { identityFromSeed } from "../../shared/node/identity.ts";
import { sha256 } from "../../shared/node/system.ts";
import { signCertificate, signState, verifyHead, verifyState } from "../../shared/trust.ts";
import { stateOfSize, withBlock } from "../support/states.ts";
import { median, round } from "./statistics.ts";

/**
 * What one block costs when it is given, beside mesh, disk and kernel: bytes that each host hears, whole and as a change,
 * what it computes to take them in, what the controller computes for the one and the other, and what of a host's memory the followed state
 * takes: `node --expose-gc test/bench/state-change.ts`. Medians of 20 blocks, after 5 that only warm up.
 */

const WARM_UP = 5;
const BLOCKS = 20;
const WHOLES = 5;
const SIZES = [
  [10, 5],
  [100, 50],
  [1000, 200],
  [BOUNDS.nodes, BOUNDS.networks],
] as const;

const [root, controller] = [1, 2].map((k) => identityFromSeed(new Uint8Array(32).fill(k))) as [
  ReturnType<typeof identityFromSeed>,
  ReturnType<typeof identityFromSeed>,
];

async function timed<T>(times: number[], work: () => T | Promise<T>): Promise<T> {
  const begunMs = performance.now();
  const made = await work();
  times.push(performance.now() - begunMs);
  return made;
}

/** Of all that is reachable, in MB. */
async function heapMb(): Promise<number> {
  const { gc } = globalThis;
  if (gc === undefined) throw new Error("run it with --expose-gc");
  for (let n = 0; n < 3; n++) {
    gc();
    await delay(20);
  }
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 1e6;
}

async function measure(hosts: number, networks: number): Promise<void> {
  let state: ClusterState = stateOfSize(hosts, networks);
  const certificate = await signCertificate(root, {
    cluster: state.cluster,
    controller: controller.node,
  });
  const signer = new StateSigner({ controller, certificate }, sha256);
  signer.goesOnFrom(state);
  const first = await signState(controller, certificate, state);
  const followed = new FollowedState(sha256);
  const before = await heapMb();
  followed.whole(first, await verifyState(root.publicKey, first));
  followed.root();
  const memory = (await heapMb()) - before;
  const all: [number[], number[], number[], number[]] = [[], [], [], []];
  const [making, signing, whole, change] = all;
  let changeBytes = 0;
  for (let n = 0; n < WARM_UP + BLOCKS; n++) {
    if (n === WARM_UP) for (const times of all) times.length = 0;
    state = withBlock(state, n);
    const held = { revision: state.revision - 1, root: followed.root()! };
    const [told] = await timed(making, async () => {
      signer.goesOnFrom(state);
      return (await signer.sign(state, { held })).changes!;
    });
    const { jws } = told!;
    await timed(change, async () => {
      const head = await verifyHead(root.publicKey, { jws, controllerCertificate: certificate });
      const { kind } = followed.follow({ signed: told!, head });
      if (kind !== "followed") throw new Error(`revision ${head.revision} is ${kind}`);
    });
    const { revision } = state;
    changeBytes = encodeCbor({ v: 1, kind: "change", revision, change: told }).length;
  }
  let wholeBytes = 0;
  for (let n = 0; n < WHOLES; n++) {
    const signed = await timed(signing, () => signState(controller, certificate, state));
    await timed(whole, () => verifyState(root.publicKey, signed));
    wholeBytes = signed.jws.length + certificate.length;
  }
  const [make, sign, verify, follow] = all.map((times) => round(median(times)));
  console.log(
    `${hosts} hosts, ${networks} networks: a change ${changeBytes} bytes, made in ${make} ms, followed in ${follow} ms; whole ${wholeBytes} bytes, signed in ${sign} ms, taken in ${verify} ms; a host's memory of it ${round(memory)} MB`,
  );
}

for (const [hosts, networks] of SIZES) await measure(hosts, networks);
