import type { PartContext } from "../core/part-context.ts";
import type { Kernel } from "../kernel/port.ts";
import { isPinnedNetns } from "../kernel/netns.ts";
import type { ControllerLink } from "../membership/controller-link.ts";
import type { JoinedSandboxes } from "../names/joined-sandboxes.ts";
import type { NameServerFeed } from "../names/name-server-feed.ts";
import type { NetworksParts } from "../networks/parts.ts";
import type { Replication } from "../replication/replication.ts";
import { ContainerWatcher } from "./container-watcher.ts";
import type { CutOffs } from "./cut-off.ts";
import type { DockerEngine } from "./engine/port.ts";
import { EndpointDriver } from "./endpoint-driver.ts";
import { LostInterfaces } from "./lost-interfaces.ts";
import { OverlayNetworkDriver } from "./network-driver.ts";
import { NetworkSync } from "./network-sync.ts";

/** What Docker's side needs of the machine (../adapters.ts). */
export interface DockerAdapters {
  readonly kernel: Kernel;
  readonly engine: DockerEngine | undefined;
  readonly cutOffs: CutOffs;
}

export interface DockerNeeds extends PartContext, NetworksParts {
  readonly adapters: DockerAdapters;
  readonly replication: Replication;
  readonly controller: ControllerLink;
  readonly sandboxes: JoinedSandboxes;
  readonly nameServerFeed: NameServerFeed;
}

export interface DockerParts {
  readonly driver: OverlayNetworkDriver;
  readonly lostInterfaces: LostInterfaces;
  /** Undefined, as `networkSync`: a host without an engine. */
  readonly containerWatcher: ContainerWatcher | undefined;
  readonly networkSync: NetworkSync | undefined;
}

/** Who carries out Docker's calls, and who asks the engine, made and joined. */
export function makeDocker(needs: DockerNeeds): DockerParts {
  const { adapters, replication, viewChanged, resync } = needs;
  const { kernel, engine, cutOffs } = adapters;
  const shared = { ...needs, kernel, cutOffs, failureChanged: () => viewChanged.emit() };
  const lostInterfaces = new LostInterfaces({ ...shared, isThere: isPinnedNetns });
  resync.on(() => lostInterfaces.soon());
  const containerWatcher = engine && new ContainerWatcher({ ...shared, engine });
  const endpoints = new EndpointDriver({ ...shared, containerWatcher });
  const driver = new OverlayNetworkDriver({ ...shared, endpoints });
  if (engine === undefined || containerWatcher === undefined)
    return { driver, lostInterfaces, containerWatcher: undefined, networkSync: undefined };
  const networkSync = new NetworkSync({
    ...shared,
    engine,
    containerWatcher,
    making: () => driver.making(),
  });
  replication.clusterChanged.on(() => networkSync.dirty());
  return { driver, lostInterfaces, containerWatcher, networkSync };
}
