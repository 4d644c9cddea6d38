import { inBackground } from "../../shared/node/in-background.ts";
import type { PartContext } from "../core/part-context.ts";
import type { Reach } from "../membership/reach.ts";
import type { LocalNetworks } from "../networks/local-networks.ts";
import type { Replication } from "../replication/replication.ts";
import type { JoinedSandboxes } from "./joined-sandboxes.ts";
import { DEFAULT_FEED_TIMES, NameServerFeed } from "./name-server-feed.ts";
import type { NameServer } from "./server/port.ts";

export interface NamesNeeds extends PartContext {
  readonly adapters: { readonly names: NameServer };
  readonly replication: Replication;
  readonly reach: Reach;
  readonly localNetworks: LocalNetworks;
  readonly sandboxes: JoinedSandboxes;
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
