import type { Failure } from "../shared/errors.ts";
import type { NetworkId, NodeId } from "../shared/ids.ts";
import type { Bindings } from "./bindings.ts";
import type { Problem, ViewSources } from "./core/view.ts";
import type { Encrypting } from "./encrypting.ts";
import type { Guarding } from "./guarding.ts";
import type { Hosting } from "./hosting.ts";
import type { Reconciler } from "./reconciler.ts";
import type { Replication } from "./replication.ts";
import type { StillMember } from "./still-member.ts";
import type { Disk } from "./store/disk.ts";

export interface SeenModules {
  readonly replication: Pick<Replication, "tables">;
  readonly hosting: Pick<Hosting, "hosted">;
  readonly bindings: Pick<Bindings, "removed">;
  readonly stillMember: Pick<StillMember, "failure">;
  readonly disk: Pick<Disk, "status">;
  readonly guarding: Pick<Guarding, "failure" | "tampered">;
  readonly encrypting: Pick<Encrypting, "failures" | "wireguard">;
  readonly reconciler: Pick<Reconciler, "failures">;
  readonly lost: () => ReadonlySet<NodeId>;
}

/** What the parts say now that a person would want to be told of. */
export function seen(modules: SeenModules): ViewSources {
  const { stillMember, disk, guarding, encrypting, reconciler } = modules;
  return {
    tables: modules.replication.tables,
    hosted: new Set(modules.hosting.hosted()),
    removed: modules.bindings.removed(),
    lost: modules.lost(),
    problems: [
      ...problem("membership", stillMember.failure()),
      ...problem("disk", disk.status().failure),
      ...problem("guards", guarding.failure()),
      ...encrypting.failures().flatMap(({ encryption, failure }) => problem(encryption, failure)),
      ...reconciler
        .failures()
        .flatMap(({ network, failure }) => problem("kernel", failure, network)),
    ],
    tampered: guarding.tampered() + (encrypting.wireguard.guards()?.guarding.tampered() ?? 0),
  };
}

function problem(
  what: Problem["what"],
  failure: Failure | undefined,
  network?: NetworkId,
): Problem[] {
  return failure === undefined ? [] : [{ what, network, message: failure.message }];
}
