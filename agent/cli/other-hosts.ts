import { setTimeout as delay } from "node:timers/promises";
import { DEFAULT_PORTS } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { Family } from "../../shared/ip.ts";
import { tableFull, timesTableWasFull } from "../../shared/node/neighbour-table.ts";
import { askPort } from "../../shared/node/tcp-port.ts";
import type { ProofStatus } from "../membership/failure-detector.ts";
import { callAgent, type Context, patient } from "./context.ts";
import { progress } from "./output.ts";
import { waitFor } from "./wait-for.ts";
import { names, type Said, sentence, whatPortsSay } from "./what-ports-say.ts";

/** Longer than the mesh's longest backoff and two rounds of the data-path proof. */
export const REACH_TIMEOUT_MS = 20_000;
/** For hosts that take the connection and do not get further: fifty that start on two processors need a minute. */
const SLOW_MS = 300_000;
/** Until what the ports say is asked and shown, and again. */
const SAY_MS = 5000;
const LOOK_MS = 200;
const FAMILIES: readonly Family[] = [4, 6];

interface Host {
  readonly name: string;
  readonly address: string;
  readonly self: boolean;
  readonly connected: boolean;
  /** Absent of an agent of before, which did not say whom it dials. */
  readonly dialled?: boolean;
}

export interface Reaching {
  readonly timeoutMs?: number;
  readonly slowMs?: number;
  readonly sayMs?: number;
  readonly say?: (text: string) => void;
  readonly port?: number;
  readonly ask?: typeof askPort;
  readonly timesFull?: typeof timesTableWasFull;
}

/**
 * Mesh and data path to at least one other host. A host that takes the connection and has not finished the handshake
 * is slow: it is waited on, and that is said.
 * @throws UNREACHABLE: what the ports say, each its own way; TIMEOUT: they take connections, and nothing follows
 */
export async function reachOthers(context: Context, reaching: Reaching = {}): Promise<void> {
  const timeoutMs = reaching.timeoutMs ?? patient(context, REACH_TIMEOUT_MS);
  if (await isConnected(context, { ...reaching, timeoutMs }))
    await waitFor(
      () => proveDataPath(context),
      () => timeoutMs,
    );
}

/** With another host; false: there is none. @throws as `reachOthers` */
async function isConnected(
  context: Context,
  {
    timeoutMs,
    slowMs = SLOW_MS,
    sayMs = SAY_MS,
    say = progress,
    port = DEFAULT_PORTS.gossip,
    ask = askPort,
    timesFull = timesTableWasFull,
  }: Reaching & { readonly timeoutMs: number },
): Promise<boolean> {
  const begunMs = Date.now();
  const fullBefore = FAMILIES.map(timesFull);
  let toSayMs = Math.min(sayMs, timeoutMs);
  for (;;) {
    const nodes = await callAgent<Host[]>(context, "GET", "/v1/nodes");
    const others = nodes.filter(({ self }) => !self);
    if (others.length === 0) return false;
    if (others.some(({ connected }) => connected)) return true;
    const waitedMs = Date.now() - begunMs;
    if (waitedMs >= toSayMs) {
      toSayMs = waitedMs + sayMs;
      const crowded = FAMILIES.filter(
        (of, i) => (timesFull(of) ?? 0) > (fullBefore[i] ?? Infinity),
      );
      const said = [...(await whatPortsSay(dialled(others), port, ask)), ...crowded.map(noRoom)];
      const isSlow = said.some(({ kind }) => kind === "accepts");
      if (waitedMs >= (isSlow ? Math.max(slowMs, timeoutMs) : timeoutMs))
        throw notReached(said, isSlow, waitedMs);
      const after = `after ${Math.round(waitedMs / 1000)} s`;
      say(`no connection with another host ${after}: ${sentence(said)}; waiting on`);
    }
    await delay(Math.min(LOOK_MS, sayMs));
  }
}

/** In a large cluster these are few. */
function dialled(others: readonly Host[]): Host[] {
  return others.filter((host) => host.dialled !== false);
}

async function proveDataPath(context: Context): Promise<void> {
  const proofs = await callAgent<ProofStatus[]>(context, "POST", "/v1/probe");
  // Nobody is asked through NAT.
  if (proofs.length === 0 || proofs.some(({ roundTripMs }) => roundTripMs !== undefined)) return;
  throw new OverlayError({
    code: "UNREACHABLE",
    message: `the data path does not work: no answer over VXLAN (${DEFAULT_PORTS.vxlanPlain}/udp, full size) from ${names(proofs)}`,
    next: "open the port between the hosts, and check that their MTU is what the interfaces say",
  });
}

/** Whatever the ports seem to say: what was sent to them may not have left this machine. */
function noRoom(family: Family): Said {
  const { message, next = "" } = tableFull(family);
  return { kind: "not-sent", text: message, next };
}

function notReached(said: readonly Said[], isSlow: boolean, waitedMs: number): OverlayError {
  return new OverlayError({
    code: isSlow ? "TIMEOUT" : "UNREACHABLE",
    message: `no other host is reached after ${Math.round(waitedMs / 1000)} s: ${sentence(said)}`,
    next: `${said.map(({ next }) => next).join("; ")}; this host stays joined and goes on trying`,
  });
}
