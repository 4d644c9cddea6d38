import type { SandboxId, SandboxStatus } from "../names/server/port.ts";

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
