import type { Endpoint } from "../shared/documents.ts";
import type { EndpointId } from "../shared/ids.ts";
import type { SandboxId, SandboxStatus } from "./dns/port.ts";

/** For `verify`: what names are, beside what they should be. Empty lists: nothing is wrong. */

/** Sandboxes whose containers should find names, and how each is served. */
export function unservedSandboxes(
  wanted: readonly SandboxId[],
  served: readonly SandboxStatus[],
): string[] {
  const held = new Map(served.map((status) => [status.id, status]));
  const needed = new Set(wanted);
  return [
    ...wanted.flatMap((id) => {
      const status = held.get(id);
      if (status === undefined) return [`names are not served in sandbox ${id}`];
      if (status.state === "waiting")
        return [`names are not served yet in sandbox ${id}: Docker has not made its namespace`];
      if (status.state === "failed")
        return [`names are not served in sandbox ${id}: ${status.problem ?? "no reason is known"}`];
      return [];
    }),
    ...served.flatMap(({ id }) =>
      needed.has(id) ? [] : [`names are served in sandbox ${id}, which no container here needs`],
    ),
  ];
}

/** What the engine says that an endpoint is found by, in the form of documents. */
export type EngineNames = Pick<Endpoint, "names" | "out">;

/**
 * Docker's names beside those of our own document. Only endpoints that both have are compared; that
 * one is missing on a side is said elsewhere.
 */
export function namesDiffer(
  engine: ReadonlyMap<EndpointId, EngineNames>,
  own: readonly Endpoint[],
): string[] {
  return own.flatMap((endpoint) => {
    const said = engine.get(endpoint.id);
    if (said === undefined) return [];
    const [theirs, ours] = [said, endpoint].map(({ names }) => (names ?? []).join(", ") || "none");
    return [
      ...(theirs === ours
        ? []
        : [`endpoint ${endpoint.id} has other names in Docker: ${theirs}, not ${ours}`]),
      ...(said.out === endpoint.out
        ? []
        : [
            `endpoint ${endpoint.id} is ${said.out ?? "well"} in Docker, and told as ${endpoint.out ?? "well"}`,
          ]),
    ];
  });
}
