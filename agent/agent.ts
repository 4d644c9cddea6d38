import { isDeepStrictEqual } from "node:util";
import type { ControlChannel } from "../controller/wire/channel.ts";
import { ControlClient } from "../controller/wire/client.ts";
import { fromBase64Url } from "../shared/base64url.ts";
import type { ClusterState, SecurityClass } from "../shared/cluster-state.ts";
import { asFailure, assert } from "../shared/errors.ts";
import { claimedAddresses, familiesOf } from "../shared/documents.ts";
import type { NetworkId, NodeId } from "../shared/ids.ts";
import type { Cidr, Ip } from "../shared/ip.ts";
import type { Owed } from "../shared/overdue.ts";
import type { Log } from "../shared/ports.ts";
import { sealKeyPair } from "../shared/sealed-box.ts";
import { verifyState } from "../shared/trust.ts";
import { Bindings } from "./bindings.ts";
import { ControllerLink } from "./controller-link.ts";
import { desiredGuards } from "./core/desired.ts";
import { Encrypting } from "./encrypting.ts";
import type { IpsecKernel } from "./encryption/ipsec-port.ts";
import { MeshKeyChannel } from "./encryption/ipsec/mesh-key-channel.ts";
import type { WireguardTunnel } from "./encryption/port.ts";
import type { Secret } from "./encryption/secret.ts";
import { IpsecClass } from "./ipsec-class.ts";
import { WireguardClass } from "./wireguard-class.ts";
import { hostsWith } from "./core/hosts.ts";
import type { ViewSources } from "./core/view.ts";
import { plan } from "./core/plan.ts";
import { type Wanted, wantedNetwork } from "./core/wanted.ts";
import type { DockerEngine } from "./docker/engine-port.ts";
import { DockerSide } from "./docker-side.ts";
import type { NameServer } from "./dns/port.ts";
import { EventLog } from "./event-log.ts";
import { Guarding } from "./guarding.ts";
import { type Identity } from "../shared/node/identity.ts";
import type { Mesh } from "./gossip/port.ts";
import { Ending } from "./ending.ts";
import { Exposing } from "./exposing.ts";
import { Hosting } from "./hosting.ts";
import type { DataPathProof, Guards, Kernel } from "./kernel/port.ts";
import type { Membership } from "./membership.ts";
import { Naming } from "./naming.ts";
import { OverlayDriver } from "./overlay-driver.ts";
import { OverlayIpam } from "./overlay-ipam.ts";
import { Proving } from "./proving.ts";
import { DEFAULT_RECONCILER_OPTIONS, Reconciler } from "./reconciler.ts";
import { Replication } from "./replication.ts";
import { Resolving } from "./resolving.ts";
import { Sandboxes } from "./sandboxes.ts";
import { SavedTables } from "./saved-tables.ts";
import { StillMember } from "./still-member.ts";
import { Watching } from "./watching.ts";
import { Disk } from "./store/disk.ts";
import type { Loss } from "./store/loss.ts";
import type { AgentStore } from "./store/port.ts";
import {
  ed25519Signer,
  ed25519Verifier,
  sha256,
  systemClock,
  systemRandom,
} from "../shared/node/system.ts";

const RESYNC_MS = 60_000;

/** What touches the machine, chosen in main.ts. */
export interface AgentAdapters {
  readonly mesh: Mesh;
  /** To the controller; in the mesh's worker, so that only one thread has libp2p. */
  readonly control: ControlChannel;
  readonly kernel: Kernel;
  readonly guards: Guards;
  readonly proof: DataPathProof;
  readonly encryption: EncryptionAdapters;
  readonly names: NameServer;
  readonly store: AgentStore;
  /** What its opening could not save. */
  readonly losses?: readonly Loss[];
  /** random(4): another one each time the machine starts. */
  readonly bootId: string;
  /** Subnets on this host's interfaces, and the interface. */
  readonly hostSubnets: () => { link: string; subnet: Cidr }[];
  /** Undefined: a host without an engine. */
  readonly engine: DockerEngine | undefined;
}

export interface EncryptionAdapters {
  readonly wireguard: WireguardTunnel;
  /** This host's; made when there is none. @throws INVALID */
  readonly wireguardKey: () => Secret;
  /** New ones, of WireGuard's transport namespace. */
  readonly transportGuards: () => Guards;
  /** @throws UNSUPPORTED or NETLINK: a kernel without it. */
  readonly ipsec: (local: Ip, udpPort: number) => IpsecKernel;
  /** VXLAN devices of this port are set down. @throws NETLINK */
  readonly classDown: (udpPort: number) => Promise<void>;
}

/** A joined host: parts made and joined together, started and stopped in order. */
export class Agent {
  readonly identity: Identity;
  readonly membership: Membership;
  readonly adapters: AgentAdapters;
  readonly replication: Replication;
  readonly reconciler: Reconciler;
  readonly guarding: Guarding;
  readonly encrypting: Encrypting;
  readonly proving: Proving;
  readonly resolving: Resolving;
  readonly controller: ControllerLink;
  readonly bindings: Bindings;
  readonly hosting: Hosting;
  readonly ipam: OverlayIpam;
  readonly driver: OverlayDriver;
  readonly exposing: Exposing;
  readonly ending: Ending;
  readonly naming: Naming | undefined;
  readonly docker: DockerSide | undefined;
  readonly events: EventLog;
  readonly disk: Disk;
  readonly watching: Watching;
  readonly stillMember: StillMember;
  readonly #log: Log;
  /** Networks found in the kernel at the start that no state has told us of yet. */
  #unadopted: NetworkId[] = [];
  /** At the last change of state or hosts. */
  #wanted: ReadonlyMap<NetworkId, Wanted> = new Map();
  #resync: NodeJS.Timeout | undefined;
  #runs = false;

  constructor(identity: Identity, membership: Membership, adapters: AgentAdapters, log: Log) {
    this.identity = identity;
    this.membership = membership;
    this.adapters = adapters;
    this.#log = log;
    const { node } = identity;
    const { mesh, kernel, guards, proof, names, store, losses } = adapters;
    const rootKey = fromBase64Url(membership.rootKey);
    this.events = new EventLog(systemClock);
    this.watching = new Watching(() => this.#seen(), this.events);
    const seenChanged = (): void => this.watching.dirty();
    this.disk = new Disk(store, losses, seenChanged);
    const { disk } = this;
    const saved = new SavedTables(disk);

    const keyChannel = new MeshKeyChannel((to, bytes, timeoutMs) =>
      this.replication.askForKeys(to, bytes, timeoutMs),
    );
    this.replication = new Replication(
      node,
      {
        mesh,
        saved,
        log,
        clock: systemClock,
        random: systemRandom,
        hasher: sha256,
        signer: ed25519Signer(identity.seed),
        verifier: ed25519Verifier(),
        verifyState: (signed) => verifyState(rootKey, signed),
      },
      {
        dirty: (network) => this.#dirty(network),
        changed: () => this.#changed(),
        keysAsked: (from, bytes) => keyChannel.asked(from, bytes),
        disconnected: (peer) => this.proving.doubt(peer),
      },
    );
    this.reconciler = new Reconciler(DEFAULT_RECONCILER_OPTIONS, {
      kernel,
      plan,
      log,
      want: (network) => this.want(network),
      failureChanged: seenChanged,
    });
    const { tables } = this.replication;
    this.guarding = new Guarding(guards, () => this.#wantGuards(), log, seenChanged);
    this.encrypting = this.#makeEncrypting(keyChannel, seenChanged);
    this.proving = new Proving({
      self: node,
      proof,
      state: () => tables.state,
      near: () => hostsWith(tables.hosts, node),
      changed: () => this.#reachChanged(),
      log,
    });
    const client = new ControlClient(adapters.control, () => {
      const { controller, settings } = this.#state();
      const { address, peerId } = controller;
      return { address, port: settings.ports.controller, peer: peerId };
    });
    this.controller = new ControllerLink(
      client,
      {
        revision: () => this.#state().revision,
        came: (signed) => this.replication.controllerTold(signed),
      },
      log,
    );
    this.stillMember = new StillMember({
      misses: () => this.replication.missesPeers(),
      revoked: () => tables.state?.revoked.includes(node) === true,
      ask: () => this.controller.refresh(),
      changed: seenChanged,
      log,
    });
    this.bindings = new Bindings(disk, seenChanged);
    this.hosting = new Hosting(node, {
      saved,
      log,
      replication: this.replication,
      controller: this.controller,
      sealSecretKey: sealKeyPair(sha256, identity.seed).secretKey,
      facts: () => this.#facts(),
    });
    const shared = {
      log,
      replication: this.replication,
      bindings: this.bindings,
      hosting: this.hosting,
      controller: this.controller,
    };
    this.ipam = new OverlayIpam(node, { ...shared, random: systemRandom });
    this.resolving = new Resolving({
      ...shared,
      self: node,
      server: names,
      sandboxes: new Sandboxes(disk),
      lost: () => this.lost(),
    });
    const { engine } = adapters;
    const { reconciler, guarding, ipam, resolving } = this;
    const naming = engine && new Naming({ ...shared, engine, resolving });
    this.naming = naming;
    const { encrypting } = this;
    const parts = { reconciler, guarding, encrypting, ipam, naming, resolving };
    this.driver = new OverlayDriver({ ...shared, ...parts, kernel });
    this.exposing = new Exposing({
      ...shared,
      encrypting,
      ipam,
      reconciler,
      kernel,
      hasher: sha256,
      hostSubnets: adapters.hostSubnets,
    });
    this.ending = new Ending({ ...shared, self: node, lost: () => this.lost() });
    const { ending } = this;
    this.docker =
      engine &&
      naming &&
      new DockerSide({ ...shared, self: node, resolving, ending, engine, naming });
  }

  /**
   * Tables from disk, guards, mesh, then the kernel as the tables say. Nothing that forwards is
   * touched before a peer was asked.
   */
  async start(): Promise<void> {
    await this.replication.restore(this.membership.state);
    // First of all: containers ask, and meanwhile nobody answers what is ours.
    await this.resolving.start();
    await this.guarding.start();
    await this.replication.start();
    this.#forgetLastBoot();
    this.encrypting.dirty();
    await this.resolving.forgetGone();
    const found = await this.adapters.kernel.list();
    this.#unadopted = found.filter((network) => this.hosting.endpoints(network).length === 0);
    await this.#adopt();
    await this.hosting.start(this.#unadopted);
    this.#runs = true;
    this.#watchController();
    this.adapters.kernel.onChange((network) => this.reconciler.dirty(network));
    await this.#lookAtLeftovers();
    for (const network of this.hosting.hosted()) this.reconciler.dirty(network);
    this.proving.start();
    this.stillMember.start();
    this.watching.start();
    const { losses } = this.disk.status();
    this.events.add(losses.map((loss) => ({ kind: "lost-from-disk", ...loss })));
    this.#resync = setInterval(() => this.#resyncAll(), RESYNC_MS);
  }

  /** `leave`: nothing of ours stays, on this engine or in this kernel. */
  async withdraw(): Promise<void> {
    const { kernel, guards, proof } = this.adapters;
    await this.docker?.withdraw();
    await this.resolving.withdraw();
    for (const network of await kernel.list()) await kernel.apply(network, [{ kind: "retract" }]);
    await this.encrypting.withdraw();
    await proof.remove();
    await guards.remove();
  }

  /** The data plane goes on forwarding. `names`: who answers for them until there is an agent again. */
  async stop(names: "handOver" | "letGo" = "handOver"): Promise<void> {
    this.watching.stop();
    clearInterval(this.#resync);
    this.#runs = false;
    this.hosting.stop();
    await this.proving.stop();
    await this.stillMember.stop();
    await this.controller.stop();
    await this.replication.stop();
    await this.reconciler.stop();
    await this.encrypting.stop();
    await this.guarding.stop();
    await this.adapters.guards.close();
    await this.adapters.kernel.close();
    // The last that containers notice: from here on their questions wait.
    await this.resolving.stop(names);
    this.disk.close();
  }

  /** For the watchdog: which parts owe progress, and since when. */
  owed(): Owed {
    const { mesh, names } = this.adapters;
    return {
      mesh: mesh.owesSinceMs(),
      names: names.owesSinceMs(),
      reconciler: this.reconciler.passSinceMs(),
    };
  }

  /** Hosts that this one does not reach: what is on them is in no answer. */
  lost(): ReadonlySet<NodeId> {
    return this.proving.lost();
  }

  /** What the kernel should hold of the network, and whether what it should not may go. */
  want(network: NetworkId): Wanted {
    const { tables, networks, cluster } = this.replication;
    // Containers may run there that our documents have lost: nothing is taken away before it was looked.
    if (this.#unadopted.includes(network)) return { desired: undefined, inSync: false };
    const pathsOf = (encryption: SecurityClass) => this.encrypting.paths(encryption);
    return wantedNetwork(tables, this.identity.node, network, pathsOf, {
      stateIsFresh: this.replication.stateIsFresh(),
      hostsInSync: cluster.inSync(),
      inSync: networks.inSync(network),
    });
  }

  /**
   * Ports in the kernel that our documents do not know: the database was lost, the containers run
   * on. What the ports say of themselves is said again; Docker's list takes away what is not so.
   */
  async #adopt(): Promise<void> {
    const known = new Set(this.#state().networks.map(({ id }) => id));
    // An old state may not know them yet: they are looked at again with the next.
    const now = this.#unadopted.filter((network) => known.has(network));
    for (const network of now) {
      const { ports } = await this.adapters.kernel.read(network);
      // Only now: what could not be read is adopted with the next round.
      this.#unadopted = this.#unadopted.filter((other) => other !== network);
      const held = new Set(this.hosting.endpoints(network).map(({ id }) => id));
      for (const { endpoint, mac, ips, host } of ports) {
        if (held.has(endpoint)) continue;
        // The link-local one follows from the MAC.
        const claimed = ips.filter((ip) => !ip.startsWith("fe80:"));
        const role = host === undefined ? {} : { role: "host" as const };
        this.hosting.adopt(network, { id: endpoint, ...familiesOf(claimed), mac, ...role });
        for (const ip of claimed) this.bindings.adopt(network, ip);
      }
      if (ports.length > 0) await this.hosting.enterAgain(network);
      else this.hosting.notUsed(network);
      this.reconciler.dirty(network);
    }
  }

  /**
   * The machine was started anew since our own document was written: no container of then runs, and
   * their addresses must be free before Docker starts them again. The host's own interfaces stay wanted.
   */
  #forgetLastBoot(): void {
    const { tables } = this.replication;
    const said = tables.hosts.get(this.identity.node)?.bootId;
    if (said === undefined || said === this.adapters.bootId) return;
    for (const { id: network } of this.#state().networks) {
      const gone = this.hosting.endpoints(network).filter(({ role }) => role !== "host");
      if (gone.length === 0) continue;
      this.#log.info({ network, endpoints: gone.length }, "gone with the last boot");
      this.replication.change(
        network,
        [],
        gone.map(({ id }) => id),
      );
      for (const ip of gone.flatMap(claimedAddresses)) this.bindings.release(network, ip);
    }
  }

  /**
   * Networks in the kernel that the state does not know after all this time have ended. Not sooner: with
   * a lost database the first peer that was asked may know as little, and the ports of containers that
   * run cannot be put back.
   */
  #giveUpUnknown(): void {
    const { tables } = this.replication;
    const known = new Set(tables.state?.networks.map(({ id }) => id));
    if (!this.replication.stateIsFresh()) return;
    const gone = this.#unadopted.filter((network) => !known.has(network));
    this.#unadopted = this.#unadopted.filter((network) => known.has(network));
    for (const network of gone) {
      this.hosting.notUsed(network);
      this.reconciler.dirty(network);
    }
  }

  /** What no event told, or told while we were writing. */
  #resyncAll(): void {
    this.adapters.kernel.recheck();
    this.#giveUpUnknown();
    this.hosting.rekey().catch(() => {});
    void this.resolving.forgetGone();
    this.#adopt().catch(() => {});
    for (const network of this.hosting.hosted()) this.reconciler.dirty(network);
    this.#lookAtLeftovers().catch(() => {});
    void this.guarding.check();
    this.encrypting.check();
    // The controller may be away: with the next round.
    this.ipam.returnEmpty(performance.now()).catch(() => {});
  }

  /** What is known by name alone: a pass takes away what nobody here needs. */
  async #lookAtLeftovers(): Promise<void> {
    for (const network of await this.adapters.kernel.list()) this.reconciler.dirty(network);
  }

  #dirty(network: NetworkId): void {
    this.resolving.dirty(network);
    this.guarding.dirty();
    this.encrypting.wireguard.guards()?.guarding.dirty();
    this.reconciler.dirty(network);
    this.watching.dirty();
  }

  #wantGuards() {
    const open = this.encrypting.ipsec.isOpen() ? (["ipsec"] as const) : [];
    return desiredGuards(this.replication.tables, this.identity.node, ["none", ...open]);
  }

  #makeEncrypting(channel: MeshKeyChannel, seenChanged: () => void): Encrypting {
    const { encryption } = this.adapters;
    const shared = {
      self: this.identity.node,
      tables: this.replication.tables,
      stateIsFresh: () => this.replication.stateIsFresh(),
      lost: () => this.lost(),
      seenChanged,
      log: this.#log,
    };
    const pathsChanged = (of: SecurityClass) => (): void => {
      for (const network of this.hosting.hosted())
        if (this.hosting.find(network)?.encryption === of) this.reconciler.dirty(network);
      seenChanged();
    };
    const wireguard = new WireguardClass({
      ...shared,
      tunnel: encryption.wireguard,
      makeGuards: encryption.transportGuards,
      privateKey: encryption.wireguardKey,
      keyChanged: () => this.hosting.say(),
      pathsChanged: pathsChanged("wireguard"),
    });
    const ipsec = new IpsecClass({
      ...shared,
      channel,
      makeKernel: encryption.ipsec,
      classDown: encryption.classDown,
      opened: async () => {
        this.guarding.dirty();
        await this.guarding.settled();
      },
      pathsChanged: pathsChanged("ipsec"),
      clock: systemClock,
      random: systemRandom,
    });
    return new Encrypting({ ...shared, wireguard, ipsec });
  }

  /** It may have moved here, or away. */
  #watchController(): void {
    this.controller.watch(this.#state().controller.node === this.identity.node);
  }

  #changed(): void {
    if (this.#runs) this.#watchController();
    this.resolving.changed();
    this.guarding.dirty();
    this.encrypting.dirty();
    this.watching.dirty();
    // VTEPs, blocks, MTU, admission: any network here may look different now.
    for (const network of this.#lookDifferent()) this.reconciler.dirty(network);
    this.docker?.dirty();
    if (this.#unadopted.length > 0)
      this.#adopt().catch((error: unknown) =>
        this.#log.warn({ ...asFailure(error) }, "not adopted yet"),
      );
    // Tried again with the next round of probes.
    this.proving.update().catch(() => {});
    this.hosting
      .rekey()
      .catch((error: unknown) => this.#log.warn({ ...asFailure(error) }, "new key not had yet"));
  }

  /** Hosts are lost, or found again. */
  #reachChanged(): void {
    this.resolving.changed();
    this.watching.dirty();
  }

  /** A block more for one network is nothing to the others: their kernel need not be read for it. */
  #lookDifferent(): NetworkId[] {
    const before = this.#wanted;
    this.#wanted = new Map(
      this.hosting.hosted().map((network) => [network, this.want(network)] as const),
    );
    return [...this.#wanted].flatMap(([network, wanted]) =>
      isDeepStrictEqual(wanted, before.get(network)) ? [] : [network],
    );
  }

  #facts() {
    const own = this.#state().nodes.find(({ id }) => id === this.identity.node);
    if (own === undefined) return undefined;
    return {
      bootId: this.adapters.bootId,
      vtep: { advertised: own.vtep, local: own.behindNat ?? own.vtep },
      underlayMtuBytes: own.underlayMtuBytes,
      wireguardKey: this.encrypting.wireguard.publicKey(),
      capabilities: [],
    };
  }

  #seen(): ViewSources {
    const failure = this.guarding.failure();
    const disk = this.disk.status().failure;
    const removed = this.stillMember.failure();
    return {
      tables: this.replication.tables,
      hosted: new Set(this.hosting.hosted()),
      removed: this.bindings.removed(),
      lost: this.lost(),
      problems: [
        ...(removed === undefined
          ? []
          : [{ what: "membership" as const, network: undefined, message: removed.message }]),
        ...(disk === undefined
          ? []
          : [{ what: "disk" as const, network: undefined, message: disk.message }]),
        ...(failure === undefined
          ? []
          : [{ what: "guards" as const, network: undefined, message: failure.message }]),
        ...this.encrypting.failures().map(({ encryption, failure: { message } }) => {
          return { what: encryption, network: undefined, message } as const;
        }),
        ...this.reconciler.failures().map(({ network, failure: { message } }) => {
          return { what: "kernel" as const, network, message };
        }),
      ],
      tampered:
        this.guarding.tampered() + (this.encrypting.wireguard.guards()?.guarding.tampered() ?? 0),
    };
  }

  #state(): ClusterState {
    const { state } = this.replication.tables;
    assert(state !== undefined, "a member has a state");
    return state;
  }
}
