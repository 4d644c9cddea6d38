import { DEFAULT_SETTINGS, type SecurityClass } from "../../shared/cluster-state.ts";
import type { Failure } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";
import { systemClock, systemTimers } from "../../shared/node/system.ts";
import type { Log } from "../../shared/ports.ts";
import type { Asked, DesiredProof } from "../core/data-plane/kernel-state.ts";
import { hostsSharing } from "../core/data-plane/desired-network.ts";
import { hostsWith } from "../core/tables/hosts.ts";
import {
  DEFAULT_PRESENCE_OPTIONS,
  TUNNEL_PRESENCE_OPTIONS,
} from "../core/liveness/failure-detector.ts";
import { askedThroughWireguard, desiredIpsecProof, desiredProof } from "../core/liveness/proofs.ts";
import { deadThrough, type FoundThrough, type Tunnel, TUNNELS } from "../core/liveness/reach.ts";
import type { Tables } from "../core/tables/tables.ts";
import type { Encryption } from "../encryption/encryption.ts";
import type { DataPathProof } from "../kernel/port.ts";
import { type ProbeCounts, type ProofStatus, FailureDetector } from "./failure-detector.ts";
import type { Reach } from "./reach.ts";

export interface DataPathsModules {
  readonly self: NodeId;
  readonly tables: Tables;
  readonly stateIsFresh: () => boolean;
  readonly encryption: Encryption;
  readonly proofs: {
    readonly none: DataPathProof;
    readonly wireguard: DataPathProof<Asked>;
    readonly ipsec: DataPathProof;
  };
  /** Told what is found. */
  readonly reach: Reach;
  /** `failure` says something else. */
  readonly failureChanged: () => void;
  readonly log: Log;
}

/**
 * The way to each other host, through each class in use: what is dead in one is dead for the networks of that class.
 * In clear all hosts are asked, through a tunnel those who share a network of its kind.
 */
export class DataPaths {
  readonly #modules: DataPathsModules;
  readonly #none: FailureDetector<DesiredProof>;
  readonly #wireguard: FailureDetector<Asked>;
  readonly #ipsec: FailureDetector<DesiredProof>;

  constructor(modules: DataPathsModules) {
    this.#modules = modules;
    const { self, tables, encryption, proofs, failureChanged, log } = modules;
    const shared = {
      name: (node: NodeId) => this.#name(node),
      changed: () => modules.reach.found(this.#found()),
      failureChanged,
      clock: systemClock,
      timers: systemTimers,
      log,
    };
    const tunnel = (of: Tunnel) => ({
      ...shared,
      encryption: of,
      presence: TUNNEL_PRESENCE_OPTIONS,
      near: () => new Set(hostsSharing(tables, self, of)),
    });
    this.#none = new FailureDetector({
      ...shared,
      encryption: "none",
      presence: DEFAULT_PRESENCE_OPTIONS,
      proof: proofs.none,
      near: () => hostsWith(tables.hosts, self),
      desired: () =>
        tables.state && desiredProof(tables.state, self, encryption.handover.sendsFrom()),
    });
    this.#wireguard = new FailureDetector({
      ...tunnel("wireguard"),
      proof: proofs.wireguard,
      desired: () => askedThroughWireguard(tables, self, encryption.wireguard.paths()),
    });
    this.#ipsec = new FailureDetector({
      ...tunnel("ipsec"),
      proof: proofs.ipsec,
      desired: () => desiredIpsecProof(tables, self, encryption.ipsec.paths()),
      unused: () => modules.stateIsFresh() && !encryption.ipsec.isHere(),
    });
  }

  start(): void {
    for (const each of this.#all()) each.start();
  }

  async stop(): Promise<void> {
    for (const each of this.#all()) await each.stop();
  }

  /** Whatever they stand on may be another than was written. */
  check(): void {
    for (const each of this.#all()) each.check();
  }

  /** A connection of the mesh ended: host or agent may be gone. */
  doubt(node: NodeId): void {
    for (const each of this.#all()) each.doubt(node);
  }

  /** State, host documents or paths may have changed. What fails is tried again with the next round. */
  update(): void {
    for (const each of this.#all()) each.update().catch(() => {});
  }

  /** Each peer once through each class in which it is asked, now. */
  async probeAll(): Promise<ProofStatus[]> {
    return (await Promise.all(this.#all().map((each) => each.probeAll()))).flat();
  }

  /** What each answered last. */
  results(encryption: SecurityClass): ProofStatus[] {
    return this.#of(encryption).results();
  }

  /** Packets that were sent to ask, through each class. */
  probes(): ProbeCounts[] {
    return this.#all().map((each) => each.probes());
  }

  /** What is not as it should be in what questions go through; WireGuard's own is its class's to say. */
  async faults(): Promise<string[]> {
    const ofIpsec = (await this.#ipsec.faults()).map((text) => `through IPsec: ${text}`);
    return [...(await this.#none.faults()), ...ofIpsec];
  }

  /** Why nothing is proven in clear, or to whom large packets are lost. */
  failure(): Failure | undefined {
    return this.#none.failure();
  }

  /** The same of a tunnel, and who does not answer through it. */
  failures(): { encryption: Tunnel; failure: Failure }[] {
    const found = this.#found();
    const { ports } = this.#modules.tables.state?.settings ?? DEFAULT_SETTINGS;
    return TUNNELS.flatMap((encryption) => {
      const dead = deadThrough(found, encryption, (node) => this.#name(node), ports.wireguard);
      const failure = dead ?? this.#of(encryption).failure();
      return failure === undefined ? [] : [{ encryption, failure }];
    });
  }

  #found(): FoundThrough {
    return {
      none: { ...this.#none.found(), keyless: new Set() },
      wireguard: { ...this.#wireguard.found(), keyless: this.#keyless("wireguard") },
      ipsec: { ...this.#ipsec.found(), keyless: this.#keyless("ipsec") },
    };
  }

  /** Where the class is not in use here because it failed, which its failure says, nobody is without a key for us. */
  #keyless(tunnel: Tunnel): Set<NodeId> {
    const { self, tables, encryption } = this.#modules;
    const paths = encryption[tunnel].paths();
    const sharing = paths === undefined ? [] : hostsSharing(tables, self, tunnel);
    return new Set(sharing.filter((node) => paths?.remote.has(node) !== true));
  }

  #of(encryption: SecurityClass): Pick<FailureDetector<never>, "results" | "failure"> {
    return { none: this.#none, wireguard: this.#wireguard, ipsec: this.#ipsec }[encryption];
  }

  #all() {
    return [this.#none, this.#wireguard, this.#ipsec] as const;
  }

  #name(node: NodeId): string {
    const { state } = this.#modules.tables;
    return state?.nodes.find(({ id }) => id === node)?.name ?? node;
  }
}
