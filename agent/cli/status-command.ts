import { setTimeout as delay } from "node:timers/promises";
import type { ControllerStatus } from "../../controller/admin-api.ts";
import { asFailure, type Failure, OverlayError } from "../../shared/errors.ts";
import { askPort } from "../../shared/node/tcp-port.ts";
import { NotServed } from "../../shared/node/unix-http.ts";
import type { NotRunning, Status } from "../api/status.ts";
import type { Finding } from "../api/verify.ts";
import type { ProofStatus } from "../membership/failure-detector.ts";
import { callAgent, callController, type Context } from "./context.ts";
import { fail, NOT_A_MEMBER, paint, print, table } from "./output.ts";
import { pathText, statusText } from "./status-text.ts";
import { verdictText, wrongs } from "./verdict.ts";

/** What this host says of itself: `status`, `verify`, `probe`. */

export interface StatusOptions {
  /** The verdict alone. */
  readonly check?: boolean;
  /** Again and again, until interrupted. */
  readonly watch?: boolean;
}

const WATCH_MS = 2000;

/** @returns 0 well, 1 something is wrong, 3 no member */
export async function status(context: Context, options: StatusOptions): Promise<number> {
  if (options.watch !== true) return show(context, options);
  // Whoever reads us may have had enough, as `head`.
  process.stdout.on("error", () => process.exit());
  for (;;) {
    if (process.stdout.isTTY) process.stdout.write("\u001b[H\u001b[2J");
    // An agent that restarts is what one watches for.
    await show(context, options).catch((error: unknown) => fail(context, error));
    await delay(WATCH_MS);
  }
}

async function show(context: Context, { check = false }: StatusOptions): Promise<number> {
  const found = await callAgent<Status | NotRunning>(context, "GET", "/v1/status");
  if (!found.joined && found.problem !== undefined) throw new OverlayError(found.problem);
  const controllerHere = await controllerStatus(context);
  const heard =
    controllerHere === undefined ? await controllerHeard(found) : controllerHere.problem;
  const wrong = found.joined ? wrongs(found, heard) : [notRunningText(found)];
  const verdict = { well: wrong.length === 0, wrong };
  const line = found.joined
    ? paint(verdictText(found, wrong), verdict.well ? "green" : "red")
    : notRunningText(found);
  print(context, check ? verdict : { ...found, controllerHere, verdict }, () =>
    [
      line,
      ...(found.joined && !check ? [statusText(found)] : []),
      ...(check ? [] : [...metricsText(found.metrics), ...controllerText(heard)]),
    ].join("\n"),
  );
  if (!found.joined && found.state !== "starting") return NOT_A_MEMBER;
  return verdict.well ? 0 : 1;
}

function notRunningText({ state }: NotRunning): string {
  return state === "starting"
    ? "this host is a member; its agent is starting"
    : "not joined: see `overlay-ts init` and `join`";
}

/** Of one that is on another host, or not where it should be: an agent asks it when it has a question, and not before. */
async function controllerHeard(found: Status | NotRunning): Promise<Failure | undefined> {
  if (!found.joined) return undefined;
  const { address, port, failure } = found.controller;
  if (failure !== undefined || address === "") return failure;
  const where = `the controller at ${address}:${port}/tcp`;
  switch ((await askPort(address, port)).kind) {
    case "accepts":
      return undefined;
    case "refuses":
      return {
        code: "UNREACHABLE",
        message: `${where} does not run: its host refuses connections there`,
        next: "`systemctl start overlay-ts-controller` there; new hosts, networks and addresses wait for it, traffic does not",
      };
    default:
      return {
        code: "UNREACHABLE",
        message: `${where} is not reached from here`,
        next: `check that its host is up and ${port}/tcp open between the hosts; new hosts, networks and addresses wait for it, traffic does not`,
      };
  }
}

/** Of the controller on this host, or why one that runs does not say; undefined: none runs here. */
async function controllerStatus(
  context: Context,
): Promise<ControllerStatus | Pick<ControllerStatus, "problem"> | undefined> {
  try {
    return await callController<ControllerStatus>(context, "GET", "/v1/status");
  } catch (error) {
    return error instanceof NotServed ? undefined : { problem: asFailure(error) };
  }
}

/** Without a controller its decisions wait; everything else goes on. */
function controllerText(problem: Failure | undefined): string[] {
  if (problem === undefined) return [];
  return ["", `controller: ${problem.message}`, `  → ${problem.next ?? ""}`];
}

/** Only what is wrong. */
function metricsText(metrics: Status["metrics"]): string[] {
  const { failure } = metrics ?? {};
  return failure === undefined ? [] : ["", failure.message, `  → ${failure.next ?? ""}`];
}

/** Exit status 1 when something is not as it should be. */
export async function verify(context: Context): Promise<number> {
  const { findings } = await callAgent<{ findings: Finding[] }>(context, "GET", "/v1/verify");
  print(context, { findings }, () =>
    findings.length === 0
      ? "kernel, Docker and tables agree"
      : findings
          .map(({ what, network, name = network, text }) =>
            [name === undefined ? what : `${what} ${name}`, text].join(": "),
          )
          .join("\n"),
  );
  return findings.length === 0 ? 0 : 1;
}

/** Exit status 1 when a host does not answer. */
export async function probe(context: Context): Promise<number> {
  const proofs = await callAgent<ProofStatus[]>(context, "POST", "/v1/probe");
  print(context, proofs, () =>
    table(
      ["HOST", "THROUGH", "ADDRESS", "BYTES", "ROUND TRIP"],
      proofs.map((proof) => [
        proof.name,
        proof.encryption ?? "none",
        proof.address,
        String(proof.bytes),
        pathText(proof, "NO ANSWER"),
      ]),
    ),
  );
  return proofs.every(({ roundTripMs }) => roundTripMs !== undefined) ? 0 : 1;
}
