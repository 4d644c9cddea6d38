import type { ClusterState } from "../../../shared/cluster-state.ts";
import type { HostDocument } from "../../../shared/documents.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Tables } from "./tables.ts";

/** In what a host says of itself: heads and changes of the state are enough for it (shared/README.md). Hosts of 0.1.0 do not say it. */
export const FOLLOWS_CHANGES = "state-2";

export function followsChanges(document: Pick<HostDocument, "capabilities"> | undefined): boolean {
  return document?.capabilities.includes(FOLLOWS_CHANGES) === true;
}

/**
 * Members that need the state whole. While there is one it travels whole. Who was not heard yet, as each that has just joined,
 * does not count: what it says of itself comes with its first words.
 */
export function needWhole(state: ClusterState, { hosts }: Pick<Tables, "hosts">): NodeId[] {
  return state.nodes.flatMap(({ id }) => {
    const document = hosts.get(id);
    return document === undefined || followsChanges(document) ? [] : [id];
  });
}
