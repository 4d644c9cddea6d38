import { changedPart } from "./changed-part.ts";
import { samePort, sameShape } from "./held-network.ts";
import type { Wanted } from "./kernel-state.ts";
import { differentRemotes } from "./plan.ts";

/**
 * A kernel that was brought to the one needs nothing to be brought to the other: so it is when containers have got
 * other names, or another health.
 */
export function sameWanted(a: Wanted, b: Wanted): boolean {
  if (a.kind !== "present" || b.kind !== "present") return a.kind === b.kind;
  const [is, should] = [a.desired, b.desired];
  if (a.prune !== b.prune || is.encryption !== should.encryption) return false;
  if (!sameShape(is, should)) return false;
  const [ports, flood] = [changedPart(is.ports, should.ports), changedPart(is.flood, should.flood)];
  if (flood.before.length + flood.after.length > 0) return false;
  if (ports.before.length !== ports.after.length) return false;
  if (!ports.before.every((port, i) => samePort(port, ports.after[i]!))) return false;
  const remotes = differentRemotes(is.remotes, should.remotes);
  return remotes.before.length + remotes.after.length === 0;
}
