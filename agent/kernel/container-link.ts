import type { EndpointId } from "../../shared/ids.ts";

/** What the names of containers' ends begin with. */
const PREFIX = "ovc";

/** The container's end of a port's veth, as the port's own name but for its letter. */
export function containerLink(endpoint: EndpointId): string {
  return `${PREFIX}${endpoint.slice(0, 12)}`;
}

export function isContainerLink(name: string): boolean {
  return name.startsWith(PREFIX);
}
