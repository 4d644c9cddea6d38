import type { ControllerKeys } from "../../controller/controller.ts";
import type { ClusterState, SignedState } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import { askPort } from "../../shared/node/tcp-port.ts";
import { generationOf } from "../../shared/revision.ts";
import { counted } from "../../shared/text.ts";
import { verifySigned } from "../../shared/node/signed-state.ts";
import { MeshNode } from "../replication/gossip/mesh-node.ts";
import { ClusterSurvey, messenger, type Met } from "./cluster-survey.ts";
import { callAgent, type Context } from "./context.ts";
import { progress } from "./output.ts";
import { type Said, sentence, whatPortsSay } from "./what-ports-say.ts";

/** How a command meets the hosts, and what it says of that. */

/** Of hosts that did not answer: enough to see what keeps them. */
const ASKED = 32;

export async function meeting(
  keys: ControllerKeys,
  generation: number,
  known: ClusterState,
  run: (meeting: ClusterSurvey) => Promise<void>,
): Promise<void> {
  const { rootKey } = keys;
  const { identity, claim, listen } = await messenger(keys, generation, known);
  const mesh = new MeshNode({ identitySeed: identity.seed, listen, claim, rootKey });
  const met = new ClusterSurvey(mesh, known, (signed) => verifySigned(rootKey, signed));
  progress(`asking ${counted(known.nodes.length, "host")}`);
  try {
    await run(met);
  } finally {
    await met.stop();
  }
}

/** The newest state that this host's agent has: hosts do not answer a controller that was replaced. */
export async function heardHere(
  context: Context,
  rootKey: Uint8Array,
  { revision }: ClusterState,
): Promise<ClusterState | undefined> {
  const { state } = await callAgent<{ state?: SignedState }>(
    context,
    "GET",
    `/v1/state?after=${revision}`,
  ).catch(() => ({ state: undefined }));
  return state && verifySigned(rootKey, state);
}

/** @throws STALE */
export function refuseSuperseded(own: ClusterState, met: ClusterState | undefined): void {
  if (met === undefined || generationOf(met.revision) === generationOf(own.revision)) return;
  throw new OverlayError({
    code: "STALE",
    message: `the controller at ${met.controller.address} has taken over from this one`,
    next: "end this one: `systemctl disable --now overlay-ts-controller`, and move its data away",
  });
}

/** @param ask of tests */
export async function nobody(known: ClusterState, ask = askPort): Promise<OverlayError> {
  const said = await saidOf(known.nodes, known, ask);
  return new OverlayError({
    code: said.some(({ kind }) => kind === "accepts") ? "TIMEOUT" : "UNREACHABLE",
    message: `no host of the cluster answers, of ${known.nodes.length}: ${sentence(said)}`,
    next: `${said.map(({ next }) => next).join("; ")}; if another controller has taken over, they refuse this one`,
  });
}

/** Who answered, and of the others what their ports say: a host that is slow is not one that is away. */
export async function metText(
  { answered, silent }: Met,
  state: ClusterState,
  ask = askPort,
): Promise<string> {
  const { nodes } = state;
  const away = silent.map((id) => nodes.find((node) => node.id === id)?.name ?? id);
  const said = await saidOf(
    nodes.filter(({ id }) => silent.includes(id)),
    state,
    ask,
  );
  const rest = away.length === 0 ? "" : `; no answer from ${away.join(", ")}`;
  const why = said.length === 0 ? "" : `: ${sentence(said)}`;
  return `${answered.length} of ${nodes.length} hosts answered${rest}${why}.`;
}

function saidOf(
  hosts: ClusterState["nodes"],
  { settings }: ClusterState,
  ask: typeof askPort,
): Promise<Said[]> {
  return whatPortsSay(hosts.slice(0, ASKED), settings.ports.gossip, ask);
}
