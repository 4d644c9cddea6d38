import type { NodeId } from "../../../shared/ids.ts";
import type { PairKey } from "../../core/keys/pair-key.ts";
import type { HeldSa, SaName } from "../../core/keys/security-association.ts";

/** IPsec of this host's kernel, for one VTEP and the class's UDP port. */
export interface IpsecKernel {
  /** @throws UNSUPPORTED with what the kernel lacks: then the host cannot take part in the class. */
  check(): Promise<void>;
  /**
   * What goes to or comes from the port is under ESP with an SA of ours, or goes nowhere. Constant, for
   * any peers; read back when this resolves. @throws NETLINK.
   */
  setPolicies(): Promise<void>;
  /** True when the kernel's policies are what `setPolicies` writes. */
  verifyPolicies(): Promise<boolean>;
  /**
   * Policies of ours for other addresses than the VTEP go: the host was there before. Their SAs are in `list`.
   * @throws NETLINK.
   */
  removeElsewhere(): Promise<void>;
  /** All SAs of ours, also those of an earlier process, and of another address of this host. */
  list(): Promise<HeldSa[]>;
  /** Never replaces: @throws NETLINK EEXIST when the destination has this SPI already. */
  put(sa: SaName, key: PairKey): Promise<void>;
  /** What is already gone is a success. */
  remove(sas: readonly SaName[]): Promise<void>;
  /** SAs or policies went, or may have gone, behind our back. */
  onLoss(listener: (of: "associations" | "policies") => void): void;
  /** For `leave`: SAs first, then policies; nothing of ours stays, of whatever address. */
  removeAll(): Promise<void>;
  /** Sockets only: the data plane goes on. */
  close(): Promise<void>;
}

/**
 * Questions to other hosts about keys, and theirs to us. Who asks is who it says: both ends are
 * authenticated, and what is answered stays secret should a host's identity key, or the keys of the
 * connection it came over, be stolen later.
 */
export interface KeyChannel {
  /** @throws UNREACHABLE or TIMEOUT. */
  request(to: NodeId, bytes: Uint8Array, timeoutMs: number): Promise<Uint8Array>;
  serve(answer: (from: NodeId, bytes: Uint8Array) => Promise<Uint8Array>): void;
}
