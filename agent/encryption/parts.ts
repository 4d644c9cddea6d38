import type { SecurityClass } from "../../shared/cluster-state.ts";
import type { NetworkId, NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import { Signal } from "../../shared/signal.ts";
import type { PartContext } from "../core/part-context.ts";
import type { Tables } from "../core/tables/tables.ts";
import { GuardReconciler } from "../kernel/guard-reconciler.ts";
import type { Guards } from "../kernel/port.ts";
import type { EncryptionAdapters } from "./adapters.ts";
import { Encryption } from "./encryption.ts";
import { VtepHandover } from "./vtep-handover.ts";
import { IpsecClass } from "./ipsec/class.ts";
import type { KeyChannel } from "./ipsec/port.ts";
import { WireguardClass } from "./wireguard/class.ts";

export interface EncryptionNeeds extends PartContext {
  readonly adapters: EncryptionAdapters;
  /** Some interface of this host has the address. */
  readonly hasAddress: (ip: Ip) => boolean;
  /** Of the host's own namespace. */
  readonly guards: Guards;
  readonly channel: KeyChannel;
  readonly replication: {
    readonly tables: Tables;
    stateIsFresh(): boolean;
    readonly networkChanged: Signal<[NetworkId]>;
    readonly clusterChanged: Signal;
  };
  readonly reach: { lost(): ReadonlySet<NodeId>; readonly changed: Signal };
}

export interface EncryptionParts {
  /** Of the host's own namespace: which ports are open there depends on the encryption in use. */
  readonly guardReconciler: GuardReconciler;
  readonly encryption: Encryption;
  /** Networks of the class reach other hosts otherwise than before, or not at all. */
  readonly pathsChanged: Signal<[SecurityClass]>;
  /** The host document has another public key to say. */
  readonly keyChanged: Signal;
}

/** Guards and both classes of encryption, made and joined. */
export function makeEncryption(needs: EncryptionNeeds): EncryptionParts {
  const { self, adapters, replication, reach, log, clock, timers, random } = needs;
  const { viewChanged, resync } = needs;
  const pathsChanged = new Signal<[SecurityClass]>();
  const keyChanged = new Signal();
  const seenChanged = (): void => viewChanged.emit();
  const guardReconciler = new GuardReconciler(needs.guards, log, seenChanged);
  const { tables } = replication;
  const handover = new VtepHandover({
    self,
    tables,
    hasAddress: needs.hasAddress,
    changed: () => {
      guardReconciler.dirty();
      encryption.dirty();
      pathsChanged.emit("none");
    },
    look: () => encryption.dirty(),
    clock,
    timers,
  });
  const shared = {
    self,
    handover,
    tables,
    stateIsFresh: () => replication.stateIsFresh(),
    lost: () => reach.lost(),
    seenChanged,
    log,
  };
  const wireguard = new WireguardClass({
    ...shared,
    tunnel: adapters.wireguard,
    makeGuards: adapters.transportGuards,
    privateKey: adapters.wireguardKey,
    keepKey: (key) => adapters.keepWireguardKey(key),
    keyChanged: () => keyChanged.emit(),
    pathsChanged: () => pathsChanged.emit("wireguard"),
  });
  const ipsec = new IpsecClass({
    ...shared,
    channel: needs.channel,
    makeKernel: adapters.ipsec,
    classDown: adapters.classDown,
    opened: async () => {
      guardReconciler.dirty();
      await guardReconciler.settled();
    },
    pathsChanged: () => pathsChanged.emit("ipsec"),
    clock,
    random,
  });
  const encryption = new Encryption({ ...shared, wireguard, ipsec });
  replication.networkChanged.on(() => {
    guardReconciler.dirty();
    wireguard.guards()?.guardReconciler.dirty();
  });
  replication.clusterChanged.on(() => {
    // First: the others ask it.
    handover.heard();
    guardReconciler.dirty();
    encryption.dirty();
  });
  // What a tunnel stands on may have gone without a word.
  reach.changed.on(() => encryption.check());
  resync.on(() => {
    void guardReconciler.check();
    encryption.check();
  });
  pathsChanged.on(seenChanged);
  return { guardReconciler, encryption, pathsChanged, keyChanged };
}
