import type { PartContext } from "../core/part-context.ts";
import type { Egress, Kernel } from "../kernel/port.ts";
import { isPinnedNetns } from "../kernel/netns.ts";
import type { ControllerLink } from "../membership/controller-link.ts";
import type { JoinedSandboxes } from "../names/joined-sandboxes.ts";
import type { NameServerFeed } from "../names/name-server-feed.ts";
import type { NetworksParts } from "../networks/parts.ts";
import type { Replication } from "../replication/replication.ts";
import type { Disk } from "../store/disk.ts";
import { ContainerWatcher } from "./container-watcher.ts";
import type { CutOffs } from "./cut-off.ts";
import type { DockerEngine } from "./engine/port.ts";
import { EndpointDriver } from "./endpoint-driver.ts";
import { LostInterfaces } from "./lost-interfaces.ts";
import { OverlayNetworkDriver } from "./network-driver.ts";
import { NetworkSync } from "./network-sync.ts";
import { SandboxWays } from "./sandbox-ways.ts";
import { WaysOut } from "./ways-out.ts";

/** What Docker's side needs of the machine (../adapters.ts). */
export interface DockerAdapters {
  readonly kernel: Kernel;
  readonly engine: DockerEngine | undefined;
  readonly cutOffs: CutOffs;
  readonly egress: Pick<Egress, "blocked">;
}

export interface DockerNeeds extends PartContext, NetworksParts {
  readonly adapters: DockerAdapters;
  readonly replication: Replication;
  readonly controller: ControllerLink;
  readonly sandboxes: JoinedSandboxes;
  readonly disk: Disk;
  readonly nameServerFeed: NameServerFeed;
}

export interface DockerParts {
  readonly driver: OverlayNetworkDriver;
  readonly lostInterfaces: LostInterfaces;
  readonly sandboxWays: SandboxWays;
  readonly waysOut: WaysOut;
  /** Undefined, as `networkSync`: a host without an engine. */
  readonly containerWatcher: ContainerWatcher | undefined;
  readonly networkSync: NetworkSync | undefined;
}

/** Who carries out Docker's calls, and who asks the engine, made and joined. */
export function makeDocker(needs: DockerNeeds): DockerParts {
  const { adapters, replication, viewChanged, resync } = needs;
  const { kernel, engine, cutOffs, egress } = adapters;
  const shared = { ...needs, kernel, cutOffs, failureChanged: () => viewChanged.emit() };
  const { disk, sandboxes } = needs;
  const isThere = isPinnedNetns;
  const sandboxWays = new SandboxWays({ disk, joined: sandboxes.all(), isThere });
  resync.on(() => sandboxWays.forgetGone());
  const lostInterfaces = new LostInterfaces({ ...shared, sandboxWays, isThere });
  resync.on(() => lostInterfaces.soon());
  const containerWatcher = engine && new ContainerWatcher({ ...shared, engine });
  const waysOut = new WaysOut({ ...shared, egress, sandboxWays });
  const endpoints = new EndpointDriver({ ...shared, waysOut, containerWatcher });
  const driver = new OverlayNetworkDriver({ ...shared, endpoints });
  const parts = { driver, lostInterfaces, sandboxWays, waysOut };
  if (engine === undefined || containerWatcher === undefined)
    return { ...parts, containerWatcher: undefined, networkSync: undefined };
  const networkSync = new NetworkSync({
    ...shared,
    engine,
    containerWatcher,
    making: () => driver.making(),
  });
  replication.clusterChanged.on(() => networkSync.dirty());
  return { ...parts, containerWatcher, networkSync };
}
