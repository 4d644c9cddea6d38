import { OverlayError } from "../../shared/errors.ts";
import { Lines } from "../../shared/node/unix-http.ts";
import { oneLine } from "../../shared/text.ts";
import type { AgentParts } from "../agent.ts";
import { concerns } from "../core/events/events.ts";
import type { Event } from "../events/event-log.ts";
import { findNetwork, lookUp } from "./look-up.ts";

/** A question for events, as the local socket's query gives it. */
interface Query {
  readonly network?: string;
  readonly sinceMs?: string;
  readonly follow?: string;
}

/** @throws INVALID, NOT_FOUND, FULL */
export function events(
  agent: AgentParts,
  { network, sinceMs, follow }: Query,
  signal: AbortSignal,
): Lines {
  const wanted = network === undefined ? () => true : ofNetwork(agent, network);
  const question = { sinceMs: wholeMs(sinceMs), follow: flag("follow", follow), wanted };
  return new Lines(agent.events.read(question, signal));
}

/**
 * By what people call it, now or before; and, when the cluster has it, all of its id: also what
 * happened before Docker had told its name. @throws NOT_FOUND
 */
function ofNetwork(agent: AgentParts, name: string): (event: Event) => boolean {
  const id = lookUp(agent, name)?.id ?? name;
  const wanted = (event: Event): boolean =>
    event.kind !== "started" &&
    event.kind !== "lost-from-disk" &&
    (concerns(event, name) || concerns(event, id));
  // One that has ended is in no state, but may be what the question is about.
  if (!agent.events.knows(wanted)) findNetwork(agent, name);
  return wanted;
}

function wholeMs(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new OverlayError({
    code: "INVALID",
    message: `sinceMs=${oneLine(text, 64)} is no number of milliseconds`,
    next: "give a whole number",
  });
}

function flag(name: string, text: string | undefined): boolean {
  if (text === undefined || text === "false") return false;
  if (text === "true") return true;
  throw new OverlayError({
    code: "INVALID",
    message: `${name}=${oneLine(text, 64)} is neither true nor false`,
    next: `give ${name}=true, or leave it away`,
  });
}
