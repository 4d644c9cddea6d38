import type { NetworkRecord, SecurityClass } from "../../shared/cluster-state.ts";
import { type Failure, OverlayError } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";
import { plainPaths, type Paths } from "../core/data-plane/desired-network.ts";
import { isBehindNat } from "../core/tables/admitted.ts";
import type { Tables } from "../core/tables/tables.ts";
import type { EncryptionClass } from "./class-port.ts";
import type { IpsecClass } from "./ipsec/class.ts";
import type { VtepHandover } from "./vtep-handover.ts";
import type { WireguardClass } from "./wireguard/class.ts";

/** For Docker's Join, which should not wait longer for a peer's key. */
const SETTLE_MS = 2000;

export interface EncryptionModules {
  readonly self: NodeId;
  readonly tables: Tables;
  readonly handover: VtepHandover;
  readonly wireguard: WireguardClass;
  readonly ipsec: IpsecClass;
}

/** How each kind of network reaches other hosts: in clear, or by its class. No key, no path. */
export class Encryption {
  /** Of hosts that change their address. */
  readonly handover: VtepHandover;
  readonly wireguard: WireguardClass;
  readonly ipsec: IpsecClass;
  readonly #self: NodeId;
  readonly #tables: Tables;

  constructor({ self, tables, handover, wireguard, ipsec }: EncryptionModules) {
    this.#self = self;
    this.#tables = tables;
    this.handover = handover;
    this.wireguard = wireguard;
    this.ipsec = ipsec;
  }

  /** State or host documents may say something else. */
  dirty(): void {
    for (const each of this.#classes()) each.dirty();
  }

  /** With the periodic resync. */
  check(): void {
    for (const each of this.#classes()) each.check();
  }

  /** Kinds of networks whose packets the host's own guards let in, each on its UDP port. */
  openHere(): SecurityClass[] {
    return this.ipsec.isOpen() ? ["none", "ipsec"] : ["none"];
  }

  /** Undefined: the class does not work here now. */
  paths(encryption: SecurityClass): Paths | undefined {
    const of = this.#of(encryption);
    if (of !== undefined) return of.paths();
    return plainPaths(this.#tables, this.#self, this.handover.sendsFrom());
  }

  /** Why the class does not work here. */
  failure(encryption: SecurityClass): Failure | undefined {
    return this.#of(encryption)?.failure();
  }

  failures(): { encryption: "wireguard" | "ipsec"; failure: Failure }[] {
    return (["wireguard", "ipsec"] as const).flatMap((encryption) => {
      const failure = this.failure(encryption);
      return failure === undefined ? [] : [{ encryption, failure }];
    });
  }

  /** @throws what the class failed with: this host cannot take part in the network. */
  async require({ id, name, encryption }: NetworkRecord): Promise<void> {
    this.#requireNoNat({ id, name, encryption });
    const failure = await this.#of(encryption)?.tried();
    if (failure === undefined) return;
    throw new OverlayError({
      ...failure,
      message: `network ${name ?? id} is encrypted (${encryption}), and this host cannot: ${failure.message}`,
    });
  }

  /** VXLAN in clear and ESP (RFC 3948) do not pass what rewrites addresses and ports. */
  #requireNoNat({ id, name, encryption }: Pick<NetworkRecord, "id" | "name" | "encryption">): void {
    const own = this.#tables.state?.nodes.find((node) => node.id === this.#self);
    if (own === undefined || !isBehindNat(own) || encryption === "wireguard") return;
    throw new OverlayError({
      code: "UNSUPPORTED",
      message: `network ${name ?? id} cannot reach this host, which is behind NAT: only WireGuard passes that`,
      next: "make a network with `-o encryption=wireguard`, or join with an address that the others reach",
    });
  }

  /** This host sends from an address that it had before, in clear or by a class whose keys for the new one are awaited. */
  isChangingOver(): boolean {
    return this.handover.sendsFrom() !== undefined || this.ipsec.isChangingOver();
  }

  /** Peers on the network have paths, those that can. */
  async settled({ encryption }: NetworkRecord): Promise<void> {
    await this.#of(encryption)?.settled(SETTLE_MS);
  }

  async stop(): Promise<void> {
    this.handover.stop();
    for (const each of this.#classes()) await each.stop();
  }

  #of(encryption: SecurityClass): EncryptionClass | undefined {
    switch (encryption) {
      case "none":
        return undefined;
      case "wireguard":
        return this.wireguard;
      case "ipsec":
        return this.ipsec;
    }
  }

  #classes(): EncryptionClass[] {
    return [this.wireguard, this.ipsec];
  }
}
