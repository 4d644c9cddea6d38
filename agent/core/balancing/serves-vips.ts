import type { HostDocument } from "../../../shared/documents.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Tables } from "../tables/tables.ts";

/** In what a host says of itself: it knows virtual addresses, and answers their names with them. */
export const SERVES_VIPS = "vip-1";

export function servesVips(document: Pick<HostDocument, "capabilities"> | undefined): boolean {
  return document?.capabilities.includes(SERVES_VIPS) === true;
}

/** Members that were heard and answer the names with their members: those of a version before. */
export function withoutVips({ state, hosts }: Pick<Tables, "state" | "hosts">): NodeId[] {
  return (state?.nodes ?? []).flatMap(({ id }) => {
    const document = hosts.get(id);
    return document === undefined || servesVips(document) ? [] : [id];
  });
}
