import type { Told } from "../../agent/event-log.ts";
import { linesUnix } from "../../shared/node/unix-http.ts";
import type { LabHost } from "../support/lab-host.ts";

/** What `overlay-ts events` shows there, oldest first, without the cost of the command's start. */
export async function told(host: LabHost): Promise<Told[]> {
  const socket = host.path("/run/overlay-ts/agent.sock");
  const events: Told[] = [];
  for await (const event of linesUnix<Told>(socket, "/v1/events?sinceMs=3600000"))
    events.push(event);
  return events;
}
