import type { Told } from "../../agent/events/event-log.ts";
import { linesUnix } from "../../shared/node/unix-http.ts";
import type { LabHost } from "../support/lab-host.ts";

/** All that the log there holds, oldest first, without the cost of the command's start. */
async function told(host: LabHost): Promise<Told[]> {
  const socket = host.path("/run/overlay-ts/agent.sock");
  const events: Told[] = [];
  for await (const event of linesUnix<Told>(socket, "/v1/events")) events.push(event);
  return events;
}

/** What each of them tells after this moment. */
export async function toldFromNow(
  hosts: readonly LabHost[],
): Promise<(host: LabHost) => Promise<Told[]>> {
  const counts = new Map<LabHost, number>();
  for (const host of hosts) counts.set(host, (await told(host)).length);
  return async (host) => (await told(host)).slice(counts.get(host));
}
