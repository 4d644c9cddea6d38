import { ControlClient } from "../controller/wire/client.ts";
import { fromBase64Url } from "../shared/base64url.ts";
import type { ClusterState, SecurityClass } from "../shared/cluster-state.ts";
import { asFailure, assert } from "../shared/errors.ts";
import type { NetworkId, NodeId } from "../shared/ids.ts";
import type { Owed } from "../shared/overdue.ts";
import type { Log } from "../shared/ports.ts";
import { sealKeyPair } from "../shared/sealed-box.ts";
import { verifyState } from "../shared/trust.ts";
import type { AgentAdapters } from "./adapters.ts";
import { Adoption } from "./adoption.ts";
import { Bindings } from "./bindings.ts";
import { ControllerLink } from "./controller-link.ts";
import { desiredGuards } from "./core/desired.ts";
import { Encrypting } from "./encrypting.ts";
import { MeshKeyChannel } from "./encryption/ipsec/mesh-key-channel.ts";
import { IpsecClass } from "./ipsec-class.ts";
import { WireguardClass } from "./wireguard-class.ts";
import { hostsWith } from "./core/hosts.ts";
import { plan } from "./core/plan.ts";
import { DockerSide } from "./docker-side.ts";
import { EventLog } from "./event-log.ts";
import { Guarding } from "./guarding.ts";
import { type Identity } from "../shared/node/identity.ts";
import { Ending } from "./ending.ts";
import { Exposing } from "./exposing.ts";
import { Hosting } from "./hosting.ts";
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
import { seen } from "./seen.ts";
import { StillMember } from "./still-member.ts";
import { Wanting } from "./wanting.ts";
import { Watching } from "./watching.ts";
import { Disk } from "./store/disk.ts";
import {
  ed25519Signer,
  ed25519Verifier,
  sha256,
  systemClock,
  systemRandom,
} from "../shared/node/system.ts";

const RESYNC_MS = 60_000;

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
  readonly adoption: Adoption;
  readonly wanting: Wanting;
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
    this.watching = new Watching(() => seen(this), this.events);
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
      want: (network) => this.wanting.want(network),
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
    this.adoption = new Adoption({
      ...shared,
      self: node,
      bootId: adapters.bootId,
      kernel,
      reconciler: this.reconciler,
    });
    const { encrypting, adoption } = this;
    this.wanting = new Wanting({ ...shared, self: node, encrypting, adoption });
    this.ipam = new OverlayIpam(node, { ...shared, random: systemRandom });
    this.resolving = new Resolving({
      ...shared,
      server: names,
      sandboxes: new Sandboxes(disk),
      lost: () => this.lost(),
    });
    const { engine } = adapters;
    const { reconciler, guarding, ipam, resolving } = this;
    const naming = engine && new Naming({ ...shared, engine, resolving });
    this.naming = naming;
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
    this.adoption.forgetLastBoot();
    this.encrypting.dirty();
    await this.resolving.forgetGone();
    await this.adoption.start();
    await this.hosting.start(this.adoption.waiting());
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

  /** What no event told, or told while we were writing. */
  #resyncAll(): void {
    this.adapters.kernel.recheck();
    this.adoption.giveUpUnknown();
    this.hosting.rekey().catch(() => {});
    void this.resolving.forgetGone();
    this.adoption.adopt().catch(() => {});
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
    for (const network of this.wanting.different()) this.reconciler.dirty(network);
    this.docker?.dirty();
    this.adoption
      .adopt()
      .catch((error: unknown) => this.#log.warn({ ...asFailure(error) }, "not adopted yet"));
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

  #state(): ClusterState {
    const { state } = this.replication.tables;
    assert(state !== undefined, "a member has a state");
    return state;
  }
}
