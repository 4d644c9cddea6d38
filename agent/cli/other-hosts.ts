import { connect } from "node:net";
import { DEFAULT_PORTS } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { ProofStatus } from "../membership/failure-detector.ts";
import type { Status } from "../api/status.ts";
import { callAgent, type Context, patient } from "./context.ts";
import { waitFor } from "./wait-for.ts";

/** Longer than the mesh's longest backoff and two rounds of the data-path proof. */
export const REACH_TIMEOUT_MS = 20_000;
/** For a kernel that takes a connection on behalf of a process, however busy that is. */
const OPEN_TIMEOUT_MS = 3000;
const NAMED = 5;

interface Host {
  readonly name: string;
  readonly address: string;
}

/**
 * Mesh and data path to at least one other host. Returns what is to be said where the mesh's port is open and its
 * connections take longer than is waited for: nothing is wrong with the way to those hosts.
 * @throws UNREACHABLE
 */
export async function reachOthers(
  context: Context,
  joinedStatus: () => Promise<Pick<Status, "peers">>,
  timeoutMs = patient(context, REACH_TIMEOUT_MS),
  port: number = DEFAULT_PORTS.gossip,
): Promise<string | undefined> {
  const connected = await waitFor(
    async () => {
      const { peers } = await joinedStatus();
      if (peers.length > 0 && !peers.some((peer) => peer.connected)) throw closedPort(peers);
      return peers.length > 0;
    },
    () => timeoutMs,
  ).catch(async (error: unknown) => {
    // What keeps the agent from answering is no other host's.
    if (!(error instanceof OverlayError) || error.code !== "UNREACHABLE") throw error;
    const hosts = await callAgent<(Host & { self: boolean })[]>(context, "GET", "/v1/nodes");
    const open = await withOpenPort(
      hosts.filter(({ self }) => !self),
      port,
    );
    if (open.length === 0) throw error;
    return slowHosts(open, timeoutMs);
  });
  if (typeof connected === "string") return connected;
  if (connected)
    await waitFor(
      () => proveDataPath(context),
      () => timeoutMs,
    );
  return undefined;
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

function closedPort(peers: readonly { name: string }[]): OverlayError {
  return new OverlayError({
    code: "UNREACHABLE",
    message: `the mesh port ${DEFAULT_PORTS.gossip}/tcp of ${names(peers)} cannot be reached`,
    next: "open it between the hosts; the host stays joined and goes on trying",
  });
}

/** For people: what is slow is not unreachable. */
function slowHosts(open: readonly { name: string }[], waitedMs: number): string {
  return (
    `the mesh port ${DEFAULT_PORTS.gossip}/tcp of ${names(open)} is open, and no connection stands after ` +
    `${Math.round(waitedMs / 1000)} s, as with hosts that are busy: this one goes on trying, see \`overlay-ts status\``
  );
}

/** Those of the hosts whose kernel takes a connection on the TCP port. */
async function withOpenPort<H extends { readonly address: string }>(
  hosts: readonly H[],
  port: number,
): Promise<H[]> {
  const open = await Promise.all(hosts.map(({ address }) => isOpen(address, port)));
  return hosts.filter((_, i) => open[i]);
}

function isOpen(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: OPEN_TIMEOUT_MS });
    const end = (is: boolean) => () => {
      socket.destroy();
      resolve(is);
    };
    socket.once("connect", end(true)).once("error", end(false)).once("timeout", end(false));
  });
}

function names(peers: readonly { name: string }[]): string {
  const [first, more] = [peers.slice(0, NAMED), peers.length - NAMED];
  return first.map(({ name }) => name).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
