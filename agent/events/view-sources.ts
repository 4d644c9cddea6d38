import type { Failure } from "../../shared/errors.ts";
import type { NetworkId } from "../../shared/ids.ts";
import type { EndpointRecovery } from "../networks/endpoint-recovery.ts";
import type { Bindings } from "../networks/bindings.ts";
import type { CloneDetection } from "../membership/clone-detection.ts";
import { leftOutText } from "../core/names/left-out.ts";
import type { Problem, ViewSources } from "../core/events/view.ts";
import type { ControllerLink } from "../membership/controller-link.ts";
import type { Reach } from "../membership/reach.ts";
import type { DataPaths } from "../membership/data-paths.ts";
import type { PluginSocket } from "../docker/plugin/plugin-socket.ts";
import type { NetworkSync } from "../docker/network-sync.ts";
import type { Balancing } from "../balancing/port.ts";
import type { VipRequests } from "../balancing/vip-requests.ts";
import type { NameServer } from "../names/server/port.ts";
import type { Encryption } from "../encryption/encryption.ts";
import type { Mesh } from "../replication/gossip/port.ts";
import type { GuardReconciler } from "../kernel/guard-reconciler.ts";
import type { LocalNetworks } from "../networks/local-networks.ts";
import type { WayOutReconciler } from "../kernel/way-out-reconciler.ts";
import type { LostInterfaces } from "../docker/lost-interfaces.ts";
import type { WaysOut } from "../docker/ways-out.ts";
import type { ContainerWatcher } from "../docker/container-watcher.ts";
import type { Reconciler } from "../kernel/reconciler.ts";
import type { Replication } from "../replication/replication.ts";
import type { NameServerFeed } from "../names/name-server-feed.ts";
import type { RevocationCheck } from "../membership/revocation-check.ts";
import type { Disk } from "../store/disk.ts";
import type { Underlay } from "../membership/underlay.ts";

/** Of what failed without a word of what to do: it goes on being tried, and its log has the cause. */
const ITS_LOG = "it is tried again by itself; for the cause see `journalctl -u overlay-ts-agent`";
/** Containers in one line. */
const MOST_SHOWN = 5;

export interface ViewModules {
  readonly replication: Pick<Replication, "tables" | "forkFailure">;
  readonly localNetworks: Pick<LocalNetworks, "hosted" | "failures">;
  readonly dataPaths: Pick<DataPaths, "failure" | "failures">;
  readonly endpointRecovery: Pick<EndpointRecovery, "failure">;
  /** Undefined: a host without an engine. */
  readonly networkSync: Pick<NetworkSync, "failure" | "unheeded"> | undefined;
  readonly lostInterfaces: Pick<LostInterfaces, "failure">;
  readonly bindings: Pick<Bindings, "removed">;
  readonly revocationCheck: Pick<RevocationCheck, "failure">;
  readonly cloneDetection: Pick<CloneDetection, "failure">;
  readonly underlay: Pick<Underlay, "failure" | "untold">;
  readonly disk: Pick<Disk, "status">;
  readonly guardReconciler: Pick<GuardReconciler, "failure" | "tampered">;
  readonly wayOutReconciler: Pick<WayOutReconciler, "failure">;
  readonly egressReconciler: Pick<WayOutReconciler, "failure">;
  readonly waysOut: Pick<WaysOut, "failure">;
  readonly encryption: Pick<Encryption, "failures" | "wireguard">;
  readonly reconciler: Pick<Reconciler, "failures">;
  /** Undefined: a host without an engine. */
  readonly containerWatcher:
    Pick<ContainerWatcher, "status" | "failure" | "unpublished"> | undefined;
  readonly nameServerFeed: Pick<NameServerFeed, "failure">;
  readonly vipRequests: Pick<VipRequests, "failure">;
  readonly controller: Pick<ControllerLink, "failure">;
  readonly adapters: {
    readonly mesh: Pick<Mesh, "failure">;
    readonly names: Pick<NameServer, "failure">;
    readonly balancing: Pick<Balancing, "failure">;
    readonly pluginSocket?: Pick<PluginSocket, "failure"> | undefined;
  };
  readonly reach: Pick<Reach, "lost">;
}

/** What the parts say now that a person would want to be told of. */
export function seen(modules: ViewModules): ViewSources {
  const { guardReconciler, encryption } = modules;
  return {
    tables: modules.replication.tables,
    hosted: new Set(modules.localNetworks.hosted()),
    removed: modules.bindings.removed(),
    lost: modules.reach.lost(),
    problems: problemsOf(modules),
    tampered:
      guardReconciler.tampered() + (encryption.wireguard.guards()?.guardReconciler.tampered() ?? 0),
  };
}

/** Of everything that is tried again until it succeeds; each with what to do. */
export function problemsOf(modules: ViewModules): Problem[] {
  const { revocationCheck, disk, guardReconciler, encryption, dataPaths, reconciler } = modules;
  return [
    ...problem("membership", revocationCheck.failure()),
    ...problem("state", modules.replication.forkFailure()),
    ...problem("identity", modules.cloneDetection.failure()),
    ...problem("disk", disk.status().failure),
    ...problem(
      "guards",
      guardReconciler.failure() ?? encryption.wireguard.guards()?.guardReconciler.failure(),
    ),
    ...problem("way out", modules.wayOutReconciler.failure() ?? modules.egressReconciler.failure()),
    ...problem("way out", modules.waysOut.failure()),
    ...[...encryption.failures(), ...dataPaths.failures()].flatMap(({ encryption, failure }) =>
      problem(encryption, failure),
    ),
    ...problem("data path", dataPaths.failure()),
    ...problem("underlay", modules.underlay.failure()),
    ...problem("controller", modules.underlay.untold()),
    ...problem(
      "docker",
      modules.adapters.pluginSocket?.failure() ??
        modules.networkSync?.failure() ??
        modules.containerWatcher?.failure(),
    ),
    ...problem("controller link", modules.controller.failure()),
    ...problem(
      "name server",
      modules.nameServerFeed.failure() ?? modules.adapters.names.failure?.(),
    ),
    ...problem(
      "virtual addresses",
      modules.vipRequests.failure() ?? modules.adapters.balancing.failure?.(),
    ),
    ...problem("mesh", modules.adapters.mesh.failure?.()),
    ...problem("adoption", modules.endpointRecovery.failure()),
    ...problem("interfaces", modules.lostInterfaces.failure()),
    ...leftOut(modules.containerWatcher),
    ...unpublished(modules.containerWatcher),
    ...(modules.networkSync?.unheeded() ?? []).flatMap(({ network, name, subnets }) =>
      problem("ipv6", withoutIpv6(name, subnets), network),
    ),
    ...modules.localNetworks
      .failures()
      .flatMap(({ network, failure }) => problem("keys", failure, network)),
    ...reconciler.failures().flatMap(({ network, failure }) => problem("kernel", failure, network)),
  ];
}

function problem(
  what: Problem["what"],
  failure: Failure | undefined,
  network?: NetworkId,
): Problem[] {
  if (failure === undefined) return [];
  return [{ what, network, message: failure.message, next: failure.next ?? ITS_LOG }];
}

function withoutIpv6(name: string, subnets: readonly string[]): Failure {
  return {
    code: "INVALID",
    message: `network ${name} has IPv4 only: ${subnets.join(", ")} was given without --ipv6, and Docker heeds it with that alone`,
    next: "make it again with `--ipv6`, or leave that subnet away",
  };
}

function leftOut(containerWatcher: ViewModules["containerWatcher"]): Problem[] {
  const texts = (containerWatcher?.status().leftOutNames ?? []).map(leftOutText);
  if (texts.length === 0) return [];
  return [
    {
      what: "names",
      network: undefined,
      message: texts.join("; "),
      next: "give such a container fewer or shorter aliases, of letters, digits and hyphens",
    },
  ];
}

function unpublished(containerWatcher: ViewModules["containerWatcher"]): Problem[] {
  const containers = containerWatcher?.unpublished() ?? [];
  if (containers.length === 0) return [];
  const shown = containers.slice(0, MOST_SHOWN);
  const texts = shown.map(({ name, published }) => `${name} (${published.join(", ")})`);
  const more = containers.length - shown.length;
  return [
    {
      what: "published ports",
      network: undefined,
      message: `nobody reaches the ports of containers that are on networks without a way out alone, as with Docker's own: ${texts.join(", ")}${more > 0 ? ` and ${more} more` : ""}`,
      next: "`docker network connect` them to one that is not `--internal`, or leave `-p` away",
    },
  ];
}
