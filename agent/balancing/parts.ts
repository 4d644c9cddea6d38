import type { PartContext } from "../core/part-context.ts";
import type { ControllerLink } from "../membership/controller-link.ts";
import type { Reach } from "../membership/reach.ts";
import type { Replication } from "../replication/replication.ts";
import type { Signal } from "../../shared/signal.ts";
import { type AskedVip, VipRequests } from "./vip-requests.ts";

export interface VipRequestsNeeds extends PartContext {
  readonly replication: Replication;
  readonly controller: ControllerLink;
  readonly reach: Reach;
  /** Undefined: a host without an engine, where nobody asks. */
  readonly containerWatcher:
    { readonly told: Signal; readonly vipWishes: () => readonly AskedVip[] } | undefined;
}

/** Who asks the controller for virtual addresses, made and joined. */
export function makeVipRequests(needs: VipRequestsNeeds): VipRequests {
  const { replication, reach, containerWatcher, viewChanged, resync } = needs;
  const requests = new VipRequests({
    ...needs,
    tables: replication.tables,
    wishes: () => containerWatcher?.vipWishes() ?? [],
    lost: () => reach.lost(),
    failureChanged: () => viewChanged.emit(),
  });
  containerWatcher?.told.on(() => requests.soon());
  replication.clusterChanged.on(() => requests.soon());
  resync.on(() => requests.check());
  return requests;
}
