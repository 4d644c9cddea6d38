import type { SecurityClass } from "../../shared/cluster-state.ts";
import type { Cidr } from "../../shared/ip.ts";
import { inBackground } from "../../shared/node/in-background.ts";
import type { PassLoopTimes } from "../../shared/node/pass-loop.ts";
import { sha256 } from "../../shared/node/system.ts";
import type { Signal } from "../../shared/signal.ts";
import type { TransitPools } from "../core/data-plane/transit.ts";
import type { PartContext } from "../core/part-context.ts";
import { ownFacts } from "../core/tables/own-facts.ts";
import type { Encryption } from "../encryption/encryption.ts";
import type { GuardReconciler } from "../kernel/guard-reconciler.ts";
import type { Kernel } from "../kernel/port.ts";
import {
  DEFAULT_RECONCILER_OPTIONS,
  Reconciler,
  type ReconcilerModules,
} from "../kernel/reconciler.ts";
import type { ControllerLink } from "../membership/controller-link.ts";
import type { Reach } from "../membership/reach.ts";
import type { Replication } from "../replication/replication.ts";
import type { SavedTables } from "../replication/saved-tables.ts";
import type { Disk } from "../store/disk.ts";
import { AttachEndpoint } from "./attach-endpoint.ts";
import { Bindings } from "./bindings.ts";
import { DesiredNetworks } from "./desired-networks.ts";
import { EndpointRecovery } from "./endpoint-recovery.ts";
import { HostEndpoints } from "./host-endpoint.ts";
import { OverlayIpam } from "./ipam.ts";
import { Leases } from "./leases.ts";
import { LINGER_MS, LocalNetworks } from "./local-networks.ts";
import { NetworkRemoval } from "./network-removal.ts";
import { RETURN_AFTER_MS } from "./own-blocks.ts";
import { TransitSlots } from "./transit-slots.ts";

/** What networks need of the machine (../adapters.ts). */
export interface NetworksAdapters {
  readonly kernel: Kernel;
  readonly bootId: string;
  readonly hostSubnets: () => { link: string; subnet: Cidr }[];
  /** Of networks' ways out; undefined: they have none. */
  readonly transitPools: TransitPools | undefined;
}

export interface NetworksNeeds extends PartContext {
  readonly adapters: NetworksAdapters;
  /** What keys of networks are sealed for. */
  readonly sealSecretKey: Uint8Array;
  readonly plan: ReconcilerModules["plan"];
  readonly disk: Disk;
  readonly saved: SavedTables;
  readonly replication: Replication;
  readonly reach: Reach;
  readonly controller: Pick<ControllerLink, "request">;
  readonly guardReconciler: Pick<GuardReconciler, "settled">;
  readonly encryption: Pick<Encryption, "paths" | "require" | "settled"> & {
    readonly wireguard: Pick<Encryption["wireguard"], "publicKey">;
  };
  readonly pathsChanged: Signal<[SecurityClass]>;
  readonly keyChanged: Signal;
}

export interface NetworksTimes {
  /** From when its last endpoint went until a network is left. */
  readonly lingerMs: number;
  /** So long a block is not used before it is given back. */
  readonly returnAfterMs: number;
  readonly reconciler: PassLoopTimes;
}

export const DEFAULT_NETWORKS_TIMES: NetworksTimes = {
  lingerMs: LINGER_MS,
  returnAfterMs: RETURN_AFTER_MS,
  reconciler: DEFAULT_RECONCILER_OPTIONS,
};

export interface NetworksParts {
  readonly bindings: Bindings;
  readonly leases: Leases;
  readonly localNetworks: LocalNetworks;
  readonly endpointRecovery: EndpointRecovery;
  readonly transitSlots: TransitSlots;
  readonly desiredNetworks: DesiredNetworks;
  readonly reconciler: Reconciler;
  readonly ipam: OverlayIpam;
  readonly attachEndpoint: AttachEndpoint;
  readonly hostEndpoints: HostEndpoints;
  readonly networkRemoval: NetworkRemoval;
}

/** Networks of this host, their endpoints and addresses, and what the kernel holds of them, made and joined. */
export function makeNetworks(needs: NetworksNeeds, times = DEFAULT_NETWORKS_TIMES): NetworksParts {
  const { self, adapters, replication, encryption, reach, viewChanged } = needs;
  const { kernel, bootId, hostSubnets, transitPools } = adapters;
  const failureChanged = (): void => viewChanged.emit();
  const facts = () => ownFacts(replication.tables, self, bootId, encryption.wireguard.publicKey());
  const localNetworks = new LocalNetworks(
    self,
    { ...needs, facts, failureChanged },
    times.lingerMs,
  );
  const bindings = new Bindings(needs.disk, failureChanged);
  const leases = new Leases(needs.disk);
  const shared = { ...needs, localNetworks, bindings, leases, kernel, failureChanged };
  const endpointRecovery = new EndpointRecovery({
    ...shared,
    bootId,
    lookedAt: (network) => replication.networkChanged.emit(network),
  });
  const transitSlots = new TransitSlots({
    pools: transitPools,
    tables: replication.tables,
    hostSubnets,
    disk: needs.disk,
  });
  const desiredNetworks = new DesiredNetworks({ ...shared, endpointRecovery, transitSlots });
  const reconciler = new Reconciler(times.reconciler, {
    ...shared,
    want: (network) => desiredNetworks.want(network),
    rightWanted: (network) => desiredNetworks.right(network),
  });
  const ipam = new OverlayIpam(self, { ...shared, endpointRecovery }, times.returnAfterMs);
  const attachEndpoint = new AttachEndpoint({ ...shared, reconciler });
  const hostEndpoints = new HostEndpoints({
    ...shared,
    attachEndpoint,
    ipam,
    reconciler,
    hasher: sha256,
    hostSubnets,
  });
  const networkRemoval = new NetworkRemoval({ ...shared, lost: () => reach.lost() });
  const parts = {
    bindings,
    leases,
    localNetworks,
    endpointRecovery,
    transitSlots,
    desiredNetworks,
    reconciler,
    ipam,
    attachEndpoint,
    hostEndpoints,
    networkRemoval,
  };
  followTables(needs, parts);
  needs.resync.on(() => resync(needs, parts));
  return parts;
}

/**
 * Each network of this host, and each that the kernel has, is compared with it: a pass takes away what nobody here needs.
 * @throws NETLINK
 */
export async function reconcileAll(
  kernel: Pick<Kernel, "list">,
  parts: {
    readonly localNetworks: Pick<LocalNetworks, "hosted">;
    readonly reconciler: Pick<Reconciler, "check">;
  },
): Promise<void> {
  const { localNetworks, reconciler } = parts;
  for (const network of localNetworks.hosted()) reconciler.check(network);
  for (const network of await kernel.list()) reconciler.check(network);
}

type Following = PartContext & {
  readonly replication: Replication;
  readonly pathsChanged: Signal<[SecurityClass]>;
  readonly keyChanged: Signal;
};

function followTables(needs: Following, parts: NetworksParts): void {
  const { replication, pathsChanged, keyChanged } = needs;
  const { localNetworks, reconciler } = parts;
  replication.networkChanged.on((network) => reconciler.changed(network));
  replication.clusterChanged.on(() => {
    // VTEPs, blocks, MTU, admission: any network here may look different now.
    for (const network of localNetworks.hosted()) reconciler.changed(network);
    // The host document says what the state does of this host.
    localNetworks.say();
    parts.transitSlots.forgetEnded();
    tryAgain(needs, parts);
  });
  keyChanged.on(() => localNetworks.say());
  pathsChanged.on((of) => {
    for (const network of localNetworks.hosted())
      if (localNetworks.find(network)?.encryption === of) reconciler.dirty(network);
  });
}

function resync(needs: PartContext & { adapters: NetworksAdapters }, parts: NetworksParts): void {
  const { log, adapters, clock } = needs;
  adapters.kernel.recheck();
  parts.transitSlots.lookAgain();
  parts.endpointRecovery.giveUpUnknown();
  tryAgain(needs, parts);
  inBackground(
    reconcileAll(adapters.kernel, parts),
    log,
    "the kernel's networks could not be listed; tried again",
  );
  inBackground(
    parts.ipam.returnEmpty(clock.nowMs()),
    log,
    "returning unused address blocks failed; tried again",
  );
}

function tryAgain({ log }: PartContext, { endpointRecovery, localNetworks }: NetworksParts): void {
  inBackground(localNetworks.rekey(), log, "fetching new keys failed; tried again");
  // `failure` says it, and it was logged when it began.
  endpointRecovery.adopt().catch(() => {});
}
