import { inBackground } from "../../shared/node/in-background.ts";
import type { PartContext } from "../core/part-context.ts";
import type { Reach } from "../membership/reach.ts";
import type { LocalNetworks } from "../networks/local-networks.ts";
import type { Replication } from "../replication/replication.ts";
import type { JoinedSandboxes } from "./joined-sandboxes.ts";
import { DEFAULT_FEED_TIMES, NameServerFeed } from "./name-server-feed.ts";
import type { Balancing } from "../balancing/port.ts";
import { ServiceFeed } from "./service-feed.ts";
import type { NameServer, SandboxId } from "./server/port.ts";

export interface NamesNeeds extends PartContext {
  readonly adapters: { readonly names: NameServer };
  readonly replication: Replication;
  readonly reach: Reach;
  readonly localNetworks: LocalNetworks;
  readonly sandboxes: JoinedSandboxes;
}

/** Who is told of containers that dial virtual addresses, and of who is behind these, made and joined. */
export function makeServices(
  needs: PartContext & {
    readonly adapters: { readonly balancing: Balancing };
    readonly replication: Replication;
    readonly reach: Reach;
    readonly localNetworks: LocalNetworks;
    readonly sandboxes: JoinedSandboxes;
    readonly nameServerFeed: NameServerFeed;
  },
): ServiceFeed {
  const { adapters, replication, reach, resync, sandboxes, nameServerFeed, log } = needs;
  const { balancing } = adapters;
  const serviceFeed = new ServiceFeed({
    ...needs,
    balancing,
    lost: (encryption) => reach.lostThrough(encryption),
  });
  nameServerFeed.setServedVips(serviceFeed);
  // The table first, then the name.
  balancing.changed.on((id) =>
    inBackground(
      nameServerFeed.vipsServed(id as SandboxId),
      log,
      "a container's names are not answered by virtual addresses yet; tried again",
    ),
  );
  sandboxes.changed.on((path) => serviceFeed.sandboxChanged(path));
  replication.networkChanged.on((network) => serviceFeed.dirty(network));
  replication.clusterChanged.on(() => serviceFeed.changed());
  for (const changed of [reach.changed, resync]) changed.on(() => serviceFeed.changed());
  return serviceFeed;
}

/** The name server's feed, made and joined. */
export function makeNames(needs: NamesNeeds, times = DEFAULT_FEED_TIMES): NameServerFeed {
  const { adapters, replication, reach, viewChanged, resync, log } = needs;
  const nameServerFeed = new NameServerFeed(
    {
      ...needs,
      server: adapters.names,
      lost: (encryption) => reach.lostThrough(encryption),
      failureChanged: () => viewChanged.emit(),
    },
    times,
  );
  replication.networkChanged.on((network) => nameServerFeed.dirty(network));
  replication.clusterChanged.on(() => nameServerFeed.changed());
  reach.changed.on(() => nameServerFeed.changed());
  resync.on(() => {
    nameServerFeed.check();
    const again = [nameServerFeed.forgetGone(), nameServerFeed.serveAgain()];
    inBackground(Promise.all(again), log, "serving names in containers failed; tried again");
  });
  return nameServerFeed;
}
