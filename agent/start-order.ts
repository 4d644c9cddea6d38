import type { Kernel } from "./kernel/port.ts";
import type { Reconciler } from "./kernel/reconciler.ts";
import type { ControllerLink } from "./membership/controller-link.ts";
import type { Membership } from "./membership/membership-files.ts";
import type { NameServerFeed } from "./names/name-server-feed.ts";
import type { EndpointRecovery } from "./networks/endpoint-recovery.ts";
import type { LocalNetworks } from "./networks/local-networks.ts";
import { reconcileAll } from "./networks/parts.ts";
import type { Replication } from "./replication/replication.ts";

/** What takes part in the start of a member, as far as the order matters. */
export interface StartingParts {
  readonly adapters: { readonly kernel: Pick<Kernel, "list" | "onChange"> };
  readonly membership: Pick<Membership, "state">;
  readonly replication: Pick<Replication, "restore" | "start">;
  readonly nameServerFeed: Pick<NameServerFeed, "start" | "forgetGone">;
  readonly serviceFeed: { start(): void };
  readonly encryption: { dirty(): void };
  readonly endpointRecovery: Pick<EndpointRecovery, "forgetLastBoot" | "start" | "waiting">;
  readonly localNetworks: Pick<LocalNetworks, "start" | "hosted">;
  readonly controller: Pick<ControllerLink, "start">;
  readonly reconciler: Pick<Reconciler, "check" | "changedOutside">;
  readonly lostInterfaces: { soon(): void };
  readonly dataPaths: { start(): void };
}

/**
 * Tables from disk, guards, mesh, then the kernel as the tables say. Nothing that forwards is touched before a peer
 * was asked.
 * @param protect guards, and what else keeps packets from where they must not go
 */
export async function startMember(
  parts: StartingParts,
  protect: () => Promise<void>,
): Promise<void> {
  const { replication, endpointRecovery, reconciler, lostInterfaces } = parts;
  const { kernel } = parts.adapters;
  await replication.restore(parts.membership.state);
  // First of all: containers ask, and meanwhile nobody answers what is ours.
  await parts.nameServerFeed.start();
  parts.serviceFeed.start();
  await protect();
  await replication.start();
  endpointRecovery.forgetLastBoot();
  parts.encryption.dirty();
  await parts.nameServerFeed.forgetGone();
  await endpointRecovery.start();
  await parts.localNetworks.start(endpointRecovery.waiting());
  parts.controller.start();
  kernel.onChange((network) => {
    reconciler.changedOutside(network);
    lostInterfaces.soon();
  });
  lostInterfaces.soon();
  await reconcileAll(kernel, parts);
  parts.dataPaths.start();
}
