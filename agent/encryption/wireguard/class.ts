import { isDeepStrictEqual } from "node:util";
import type { Failure } from "../../../shared/errors.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { Log } from "../../../shared/ports.ts";
import type { EncryptionClass } from "../class-port.ts";
import { desiredGuards } from "../../core/data-plane/desired-guards.ts";
import type { Paths } from "../../core/data-plane/desired-network.ts";
import type { Tables } from "../../core/tables/tables.ts";
import {
  readWireguard,
  transportGuards,
  type WireguardKey,
  wireguardPaths,
  type WireguardReading,
} from "../../core/keys/wireguard.ts";
import type { VtepHandover } from "../vtep-handover.ts";
import type { WireguardTunnel } from "./port.ts";
import type { Secret } from "../secret.ts";
import { newWireguardKey, wireguardPublicKey } from "./keys.ts";
import { GuardReconciler } from "../../kernel/guard-reconciler.ts";
import type { Guards } from "../../kernel/port.ts";
import { PassLoop } from "../../../shared/node/pass-loop.ts";

export interface WireguardClassModules {
  readonly self: NodeId;
  readonly tables: Tables;
  readonly stateIsFresh: () => boolean;
  readonly handover: Pick<VtepHandover, "former">;
  readonly tunnel: WireguardTunnel;
  /** New ones, of the transport namespace. */
  readonly makeGuards: () => Guards;
  /** Read, or made, with the first network of the class. @throws INVALID */
  readonly privateKey: () => Secret;
  /** The one that follows it. @throws when the disk does not take it */
  readonly keepKey: (key: Secret) => void;
  /** The public half, for the host document, is another one. */
  readonly keyChanged: () => void;
  readonly pathsChanged: () => void;
  readonly seenChanged: () => void;
  readonly log: Log;
}

/**
 * WireGuard's class on this host: with the first network of the cluster that is of it, wherever that is,
 * a tunnel to all hosts, so that no container waits for a first handshake; without any, nothing.
 */
export class WireguardClass implements EncryptionClass {
  readonly #modules: WireguardClassModules;
  readonly #loop: PassLoop;
  /** Undefined: it may stand since before this agent. */
  #stands: boolean | undefined;
  #guarded: { readonly guards: Guards; readonly guardReconciler: GuardReconciler } | undefined;
  #privateKey: Secret | undefined;
  #publicKey: WireguardKey | undefined;
  #reading: WireguardReading | undefined;
  #paths: Paths | undefined;

  constructor(modules: WireguardClassModules) {
    this.#modules = modules;
    const { log, seenChanged, tunnel } = modules;
    this.#loop = new PassLoop(
      () => this.#pass(),
      (failure) => {
        if (failure !== undefined)
          log.error({ ...failure }, "WireGuard set-up failed; tried again");
        seenChanged();
      },
    );
    tunnel.onLoss(() => this.check());
  }

  dirty(): void {
    this.#loop.dirty();
    this.#guarded?.guardReconciler.dirty();
  }

  check(): void {
    this.#loop.dirty();
    void this.#guarded?.guardReconciler.check();
  }

  paths(): Paths | undefined {
    return this.#paths;
  }

  tried(): Promise<Failure | undefined> {
    return this.#loop.tried();
  }

  failure(): Failure | undefined {
    return this.#loop.failure();
  }

  async settled(): Promise<void> {
    await this.#loop.tried();
    await this.#guarded?.guardReconciler.settled();
  }

  /** Of the transport namespace, while it stands. */
  guards(): { readonly guards: Guards; readonly guardReconciler: GuardReconciler } | undefined {
    return this.#guarded;
  }

  /**
   * What the host says of itself; undefined: it has no tunnel. Until that is decided what it said before
   * stands: without it the others would take their end of the tunnel away.
   */
  publicKey(): string | undefined {
    const { tables, self } = this.#modules;
    if (this.#publicKey !== undefined || this.#stands === false) return this.#publicKey;
    return tables.hosts.get(self)?.wireguardKey;
  }

  /**
   * Another key. The device has it first, and what it sends waits in it for the others to know the key: what they
   * send is heard by sessions that stand, and who hears of the key begins the new session.
   * @returns false: this host has no key, so there is none to change
   * @throws STORE when the disk does not take it: the one before stays
   */
  rotate(): boolean {
    if (this.#publicKey === undefined) return false;
    const next = newWireguardKey();
    // On disk first: an agent that ends here goes on with the new one.
    this.#modules.keepKey(next);
    this.#privateKey = next;
    this.#loop.dirty();
    return true;
  }

  /** Who is a peer and who is not, at the last pass. */
  reading(): WireguardReading | undefined {
    return this.#reading;
  }

  /** What is not as the tables say, and the next pass mends. */
  async faults(): Promise<string[]> {
    if (this.#reading === undefined || this.#privateKey === undefined) return [];
    return this.#modules.tunnel.faults(this.#privateKey, this.#reading.desired);
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
    await this.#unguard();
    await this.#modules.tunnel.close();
  }

  async #pass(): Promise<void> {
    const { tables, tunnel, privateKey, keyChanged, stateIsFresh } = this.#modules;
    const isUsed = tables.state?.networks.some(({ encryption }) => encryption === "wireguard");
    if (isUsed !== true) {
      if (this.#stands !== false && stateIsFresh()) await this.#takeDown();
      return;
    }
    const reading = this.#read();
    if (reading === undefined) return;
    this.#stands = true;
    this.#privateKey ??= privateKey();
    await tunnel.set(this.#privateKey, reading.desired);
    this.#reading = reading;
    // Guards are in the namespace that the tunnel has made; no network's device is there before.
    await this.#guard();
    const publicKey = wireguardPublicKey(this.#privateKey);
    if (publicKey !== this.#publicKey) {
      this.#publicKey = publicKey;
      keyChanged();
    }
    const state = await tunnel.read();
    const remote = wireguardPaths(reading, state?.peers ?? []);
    this.#take({ encryption: "wireguard", local: reading.desired.ownInside, remote });
  }

  async #takeDown(): Promise<void> {
    const { tunnel, keyChanged } = this.#modules;
    this.#take(undefined);
    await this.#unguard();
    await tunnel.remove();
    this.#stands = false;
    this.#reading = undefined;
    this.#publicKey = undefined;
    keyChanged();
  }

  async #guard(): Promise<void> {
    if (this.#guarded !== undefined) return this.#guarded.guardReconciler.dirty();
    const { makeGuards, log, seenChanged } = this.#modules;
    const guards = makeGuards();
    const guardReconciler = new GuardReconciler(guards, log, seenChanged);
    await guardReconciler.start(() => this.#wantGuards());
    this.#guarded = { guards, guardReconciler };
  }

  /** They stay as long as their namespace does. */
  async #unguard(): Promise<void> {
    const guarded = this.#guarded;
    this.#guarded = undefined;
    await guarded?.guardReconciler.stop();
    await guarded?.guards.close();
  }

  #take(paths: Paths | undefined): void {
    if (isDeepStrictEqual(paths, this.#paths)) return;
    this.#paths = paths;
    this.#modules.pathsChanged();
  }

  #read(): WireguardReading | undefined {
    const { tables, self, handover } = this.#modules;
    return readWireguard(tables, self, handover.former());
  }

  #wantGuards() {
    const { tables, self } = this.#modules;
    const guards = desiredGuards(tables, self, ["wireguard"]);
    // Of the tables as they are now, not of the last pass: a host whose address is another one since has no gap.
    const reading = this.#read();
    return guards && reading && transportGuards(guards, reading);
  }
}
