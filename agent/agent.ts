import { fromBase64Url } from "../shared/base64url.ts";
import { type Failure, OverlayError } from "../shared/errors.ts";
import { type Identity } from "../shared/node/identity.ts";
import {
  ed25519Signer,
  ed25519Verifier,
  sha256,
  systemClock,
  systemRandom,
  systemTimers,
} from "../shared/node/system.ts";
import type { Owed } from "../shared/overdue.ts";
import type { Log } from "../shared/ports.ts";
import { sealKeyPair } from "../shared/sealed-box.ts";
import { Signal } from "../shared/signal.ts";
import { verifySigned } from "../shared/node/signed-state.ts";
import { verifyHead } from "../shared/trust.ts";
import type { AgentAdapters } from "./adapters.ts";
import { desiredGuards } from "./core/data-plane/desired-guards.ts";
import type { DesiredGuards } from "./core/data-plane/kernel-state.ts";
import { plan } from "./core/data-plane/plan.ts";
import { type DockerParts, makeDocker } from "./docker/parts.ts";
import type { Encryption } from "./encryption/encryption.ts";
import { MeshKeyChannel } from "./encryption/ipsec/mesh-key-channel.ts";
import { makeEncryption } from "./encryption/parts.ts";
import { EventLog } from "./events/event-log.ts";
import { EventSource } from "./events/event-source.ts";
import { seen } from "./events/view-sources.ts";
import type { GuardReconciler } from "./kernel/guard-reconciler.ts";
import { WayOutReconciler } from "./kernel/way-out-reconciler.ts";
import type { Ended, Living } from "./lifecycle.ts";
import type { Membership } from "./membership/membership-files.ts";
import { CountedControl } from "./membership/counted-control.ts";
import { makeMembership, type MembershipParts } from "./membership/parts.ts";
import { Reach } from "./membership/reach.ts";
import { JoinedSandboxes } from "./names/joined-sandboxes.ts";
import type { NameServerFeed } from "./names/name-server-feed.ts";
import { makeNames, makeServices } from "./names/parts.ts";
import type { ServiceFeed } from "./names/service-feed.ts";
import type { VipRequests } from "./balancing/vip-requests.ts";
import { makeVipRequests } from "./balancing/parts.ts";
import { containersOf, forget } from "./networks/forget-endpoint.ts";
import { makeNetworks, type NetworksParts } from "./networks/parts.ts";
import { askForKeys } from "./replication/request-kinds.ts";
import { CountedMesh } from "./replication/counted-mesh.ts";
import { Replication } from "./replication/replication.ts";
import { SavedTables } from "./replication/saved-tables.ts";
import { startMember } from "./start-order.ts";
import { Disk } from "./store/disk.ts";

const RESYNC_MS = 60_000;

/** What a joined host consists of. */
export interface AgentParts extends MembershipParts, NetworksParts, DockerParts {
  readonly identity: Identity;
  readonly membership: Membership;
  readonly adapters: AgentAdapters & { readonly control: CountedControl };
  readonly disk: Disk;
  readonly replication: Replication;
  readonly guardReconciler: GuardReconciler;
  readonly wayOutReconciler: WayOutReconciler;
  readonly egressReconciler: WayOutReconciler;
  readonly encryption: Encryption;
  readonly reach: Reach;
  readonly nameServerFeed: NameServerFeed;
  readonly serviceFeed: ServiceFeed;
  readonly vipRequests: VipRequests;
  readonly events: EventLog;
  readonly eventSource: EventSource;
  /** Emitted once a minute (core/part-context.ts). */
  readonly resync: Signal;
}

/**
 * Each part after those that it needs. What a part has to know of a later one it hears by a signal: of changed tables
 * by those of replication.
 * @param cannotRun told when the agent is of no use as it stands (lifecycle.ts)
 */
function makeParts(
  identity: Identity,
  membership: Membership,
  given: AgentAdapters,
  log: Log,
  cannotRun: (failure: Failure) => void,
): AgentParts {
  const mesh = new CountedMesh(given.mesh);
  const adapters = { ...given, mesh, control: new CountedControl(given.control) };
  const self = identity.node;
  const [viewChanged, resync] = [new Signal(), new Signal()];
  const machine = { clock: systemClock, timers: systemTimers, random: systemRandom };
  const context = { self, log, ...machine, viewChanged, resync, adapters };
  const seenChanged = (): void => viewChanged.emit();

  const disk = new Disk(adapters.store, adapters.losses, seenChanged);
  const saved = new SavedTables(disk);
  const channel = new MeshKeyChannel((to, question, timeoutMs) =>
    askForKeys(mesh, to, question, timeoutMs),
  );
  const rootKey = fromBase64Url(membership.rootKey);
  const replication = new Replication(self, {
    mesh,
    saved,
    log,
    ...machine,
    hasher: sha256,
    signer: ed25519Signer(identity.seed),
    verifier: ed25519Verifier(),
    verifyState: (signed) => verifySigned(rootKey, signed),
    verifyHead: (signed) => verifyHead(rootKey, signed),
    answerKeys: (from, question) => channel.asked(from, question),
  });
  const reach = new Reach();
  const tables = { ...context, disk, saved, replication, reach };
  const { guards, encryption: encryptionAdapters } = adapters;
  const encryption = makeEncryption({
    ...tables,
    guards,
    channel,
    adapters: encryptionAdapters,
    hasAddress: (ip) => adapters.ownAddress?.has(ip) === true,
  });
  const wayOutReconciler = new WayOutReconciler(adapters.wayOut, log, {
    what: "isolating docker_gwbridge's ports",
    changed: seenChanged,
  });
  const egressReconciler = new WayOutReconciler(adapters.egress, log, {
    what: "writing the rules of the ways out",
    changed: seenChanged,
  });
  for (const each of [wayOutReconciler, egressReconciler]) resync.on(() => each.check());
  const member = {
    ...tables,
    ...encryption,
    ...makeMembership({ ...tables, ...encryption, cannotRun }),
  };
  const sealSecretKey = sealKeyPair(sha256, identity.seed).secretKey;
  const networks = makeNetworks({ ...member, plan, sealSecretKey });
  const sandboxes = new JoinedSandboxes(disk);
  const nameServerFeed = makeNames({ ...tables, ...networks, sandboxes });
  const serviceFeed = makeServices({ ...tables, ...networks, sandboxes, nameServerFeed });
  const docker = makeDocker({ ...member, ...networks, sandboxes, nameServerFeed });
  const vipRequests = makeVipRequests({ ...member, ...docker });
  const events = new EventLog(systemClock);
  const ways = { wayOutReconciler, egressReconciler };
  const served = { nameServerFeed, serviceFeed, vipRequests };
  const rest = { identity, membership, ...ways, ...served, events };
  const parts = { ...member, ...networks, ...docker, ...rest };
  return { ...parts, eventSource: seeing(parts, viewChanged) };
}

function seeing(parts: Omit<AgentParts, "eventSource">, viewChanged: Signal): EventSource {
  const { reach, replication, resync, events } = parts;
  const eventSource = new EventSource(() => seen(parts), events);
  for (const changed of [viewChanged, reach.changed, replication.clusterChanged, resync])
    changed.on(() => eventSource.dirty());
  replication.networkChanged.on(() => eventSource.dirty());
  return eventSource;
}

/** A joined host, as its life needs it. */
export class Agent implements Living {
  readonly parts: AgentParts;
  readonly #log: Log;
  #resync: NodeJS.Timeout | undefined;

  /** @param cannotRun told when the agent is of no use as it stands (lifecycle.ts) */
  constructor(
    identity: Identity,
    membership: Membership,
    adapters: AgentAdapters,
    log: Log,
    cannotRun: (failure: Failure) => void = () => {},
  ) {
    this.parts = makeParts(identity, membership, adapters, log, cannotRun);
    this.#log = log;
  }

  async start(): Promise<void> {
    const { parts } = this;
    const { guardReconciler, wayOutReconciler, egressReconciler } = parts;
    await startMember(parts, async () => {
      await guardReconciler.start(() => this.#guards());
      await wayOutReconciler.start();
      // Without them a network's containers would reach another's.
      const failure = await egressReconciler.start();
      if (failure !== undefined) throw new OverlayError(failure);
    });
    parts.underlay.start();
    parts.revocationCheck.start();
    parts.ownAddress?.start();
    parts.eventSource.start();
    const { losses } = parts.disk.status();
    parts.events.add(losses.map((loss) => ({ kind: "lost-from-disk", ...loss })));
    this.#resync = setInterval(() => parts.resync.emit(), RESYNC_MS);
  }

  serve(): void {
    const { networkSync, identity, membership } = this.parts;
    networkSync?.start();
    this.#log.info({ node: identity.node, cluster: membership.cluster }, "agent ready");
  }

  async endServing(): Promise<void> {
    await this.parts.networkSync?.stop();
  }

  busy(): Promise<string[]> {
    const { localNetworks } = this.parts;
    const busy = localNetworks
      .hosted()
      .filter((network) => containersOf(localNetworks.endpoints(network)).length > 0);
    return Promise.resolve(busy.map((network) => localNetworks.find(network)?.name ?? network));
  }

  /** While Docker's calls that give something back are answered still. The kernel is cleared when all has ended. */
  async withdraw(): Promise<Ended> {
    const { parts } = this;
    await this.endServing();
    const withdrawn = (await parts.networkSync?.withdraw()) ?? { cutOff: [], stays: [] };
    const { localNetworks, nameServerFeed } = parts;
    for (const network of localNetworks.hosted())
      for (const endpoint of localNetworks.endpoints(network))
        await forget(parts, network, endpoint);
    await localNetworks.withdraw();
    await nameServerFeed.withdraw();
    await parts.serviceFeed.withdrawn();
    return { ...withdrawn, removed: parts.revocationCheck.failure() !== undefined };
  }

  /** The data plane goes on forwarding. `names`: who answers for them until there is an agent again. */
  async stop(names: "handOver" | "letGo" = "handOver"): Promise<void> {
    const { parts } = this;
    parts.eventSource.stop();
    clearInterval(this.#resync);
    await this.endServing();
    parts.localNetworks.stop();
    parts.lostInterfaces.stop();
    parts.ownAddress?.stop();
    await parts.dataPaths.stop();
    await parts.underlay.stop();
    await parts.revocationCheck.stop();
    await parts.controller.stop();
    await parts.replication.stop();
    await parts.reconciler.stop();
    await parts.encryption.stop();
    await parts.serviceFeed.stop();
    await parts.guardReconciler.stop();
    await parts.wayOutReconciler.stop();
    await parts.egressReconciler.stop();
    await parts.adapters.guards.close();
    await parts.adapters.kernel.close();
    // The last that containers notice: from here on their questions wait.
    await parts.nameServerFeed.stop(names);
    parts.disk.close();
  }

  #guards(): DesiredGuards | undefined {
    const { replication, identity, encryption } = this.parts;
    const { handover } = encryption;
    return desiredGuards(
      replication.tables,
      identity.node,
      encryption.openHere(),
      handover.former(),
    );
  }

  /** For the watchdog: which parts owe progress, and since when. */
  owed(): Owed {
    const { adapters, reconciler } = this.parts;
    const { mesh, names } = adapters;
    return {
      mesh: mesh.owesSinceMs(),
      names: names.owesSinceMs(),
      reconciler: reconciler.passSinceMs(),
    };
  }
}
