import type { ControlChannel } from "../../controller/wire/channel.ts";
import { ANSWER_TIMEOUT_MS, ControlClient } from "../../controller/wire/client.ts";
import type { ClusterState, SecurityClass } from "../../shared/cluster-state.ts";
import { assert, type Failure } from "../../shared/errors.ts";
import type { Ip } from "../../shared/ip.ts";
import type { Signal } from "../../shared/signal.ts";
import type { PartContext } from "../core/part-context.ts";
import { networksUsed, ownRecord } from "../core/tables/own-facts.ts";
import type { EncryptionAdapters } from "../encryption/adapters.ts";
import type { Encryption } from "../encryption/encryption.ts";
import { WireguardProof } from "../encryption/wireguard/proof.ts";
import type { DataPathProof } from "../kernel/port.ts";
import type { Replication } from "../replication/replication.ts";
import { CloneDetection } from "./clone-detection.ts";
import { ControllerLink } from "./controller-link.ts";
import { DataPaths } from "./data-paths.ts";
import { OwnAddress } from "./own-address.ts";
import type { Reach } from "./reach.ts";
import { RevocationCheck } from "./revocation-check.ts";
import { type HostLinks, Underlay } from "./underlay.ts";

/** What membership needs of the machine (../adapters.ts). */
export interface MembershipAdapters {
  readonly control: ControlChannel;
  readonly patienceMs?: number | undefined;
  readonly links: HostLinks;
  readonly bootId: string;
  readonly ownAddress?: { readonly local: Ip; readonly has: (ip: Ip) => boolean };
  readonly proof: DataPathProof;
  readonly encryption: Pick<EncryptionAdapters, "wireguard" | "ipsecProof">;
}

export interface MembershipNeeds extends PartContext {
  readonly adapters: MembershipAdapters;
  readonly replication: Replication;
  readonly encryption: Encryption;
  readonly pathsChanged: Signal<[SecurityClass]>;
  readonly reach: Reach;
  /** Told when the agent is of no use as it stands. */
  readonly cannotRun: (failure: Failure) => void;
}

export interface MembershipParts {
  readonly controller: ControllerLink;
  readonly underlay: Underlay;
  readonly dataPaths: DataPaths;
  readonly revocationCheck: RevocationCheck;
  readonly cloneDetection: CloneDetection;
  /** Undefined: it need not be looked after. */
  readonly ownAddress: OwnAddress | undefined;
}

/** The controller, the other hosts, and what may change under a member, made and joined. */
export function makeMembership(needs: MembershipNeeds): MembershipParts {
  const { self, adapters, replication, log, clock, viewChanged, resync, cannotRun } = needs;
  const { tables } = replication;
  const changed = (): void => viewChanged.emit();
  const controller = makeControllerLink(needs);
  const underlay = new Underlay({
    links: adapters.links,
    state: () => tables.state,
    own: () => ownRecord(tables, self),
    used: () => networksUsed(tables, self),
    controller,
    changed,
    clock,
    log,
  });
  const dataPaths = makeDataPaths(needs, underlay);
  const revocationCheck = new RevocationCheck({
    misses: () => replication.missesPeers(),
    revoked: () => tables.state?.revoked.includes(self) === true,
    ask: () => controller.refresh(),
    changed,
    log,
  });
  const cloneDetection = new CloneDetection({
    bootId: adapters.bootId,
    otherMachine: () => replication.otherMachine(),
    changed,
    log,
  });
  const ownAddress =
    adapters.ownAddress &&
    new OwnAddress({
      ...adapters.ownAddress,
      signed: () => {
        const own = ownRecord(tables, self);
        return own?.behindNat ?? own?.address;
      },
      links: adapters.links,
      isChangingOver: () => needs.encryption.isChangingOver(),
      cannotRun,
    });
  replication.clusterChanged.on(() => {
    controller.stateChanged();
    cloneDetection.look();
    // An old controller's state may say of it what was.
    underlay.soon();
    ownAddress?.soon();
  });
  resync.on(() => {
    controller.check();
    cloneDetection.look();
    underlay.soon();
    ownAddress?.soon();
  });
  return { controller, underlay, dataPaths, revocationCheck, cloneDetection, ownAddress };
}

function makeControllerLink(needs: MembershipNeeds): ControllerLink {
  const { self, adapters, replication, log, viewChanged } = needs;
  const state = (): ClusterState => {
    const { state } = replication.tables;
    assert(state !== undefined, "a member has a state");
    return state;
  };
  const client = new ControlClient(
    adapters.control,
    () => {
      const { controller, settings } = state();
      const { address, peerId } = controller;
      return { address, port: settings.ports.controller, peer: peerId };
    },
    Math.max(ANSWER_TIMEOUT_MS, adapters.patienceMs ?? 0),
  );
  const held = {
    revision: () => state().revision,
    takes: () => replication.cluster.takesOfController(),
    isNewest: (revision: number) => replication.stateIsNewest(revision),
    lacksWhole: () => replication.cluster.lacksWhole(),
    isController: () => state().controller.node === self,
    came: replication.controllerTold.bind(replication),
  };
  return new ControllerLink(client, held, log, () => viewChanged.emit());
}

function makeDataPaths(needs: MembershipNeeds, underlay: Underlay): DataPaths {
  const { self, adapters, replication, encryption, pathsChanged, reach } = needs;
  const { log, viewChanged, resync } = needs;
  const dataPaths = new DataPaths({
    self,
    tables: replication.tables,
    stateIsFresh: () => replication.stateIsFresh(),
    encryption,
    proofs: {
      none: adapters.proof,
      wireguard: new WireguardProof(adapters.encryption.wireguard),
      ipsec: adapters.encryption.ipsecProof,
    },
    reach,
    failureChanged: () => {
      underlay.soon();
      viewChanged.emit();
    },
    log,
  });
  replication.disconnected.on((peer) => dataPaths.doubt(peer));
  replication.clusterChanged.on(() => dataPaths.update());
  pathsChanged.on(() => dataPaths.update());
  resync.on(() => dataPaths.check());
  return dataPaths;
}
