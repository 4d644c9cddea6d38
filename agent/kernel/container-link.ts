import type { EndpointId } from "../../shared/ids.ts";

/** The container's end of a port's veth, as the port's own name but for its letter. */
export function containerLink(endpoint: EndpointId): string {
  return `ovc${endpoint.slice(0, 12)}`;
}
