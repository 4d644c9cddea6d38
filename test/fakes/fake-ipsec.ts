import { hex } from "../../shared/codec.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { PairKey } from "../../agent/core/keys/pair-key.ts";
import { type HeldSa, type SaName, saText } from "../../agent/core/keys/security-association.ts";
import type { IpsecKernel } from "../../agent/encryption/ipsec/port.ts";

/** A kernel's IPsec in memory, proven by the contract suite that the real one is proven by. */
export class FakeIpsec implements IpsecKernel {
  readonly #local: string;
  readonly #sas: Map<string, { sa: HeldSa; key: string }>;
  /** The addresses that they are for. */
  readonly #policies: Set<string>;
  #listener: (of: "associations" | "policies") => void = () => {};
  /** Thrown by the next writes of policies, until undefined. */
  policyFailure: OverlayError | undefined;

  /** `host`: one of the same kernel, for another address. */
  constructor(local = "here", host?: FakeIpsec) {
    this.#local = local;
    this.#sas = host === undefined ? new Map() : host.#sas;
    this.#policies = host === undefined ? new Set() : host.#policies;
  }

  check(): Promise<void> {
    return Promise.resolve();
  }

  setPolicies(): Promise<void> {
    if (this.policyFailure !== undefined) return Promise.reject(this.policyFailure);
    this.#policies.add(this.#local);
    return Promise.resolve();
  }

  verifyPolicies(): Promise<boolean> {
    return Promise.resolve(this.#policies.has(this.#local));
  }

  removeElsewhere(): Promise<void> {
    for (const local of this.#policies) if (local !== this.#local) this.#policies.delete(local);
    return Promise.resolve();
  }

  list(): Promise<HeldSa[]> {
    return Promise.resolve([...this.#sas.values()].map(({ sa }) => sa));
  }

  put(sa: SaName, key: PairKey): Promise<void> {
    const { source, destination, spi } = sa;
    for (const { sa: held } of this.#sas.values())
      if (held.destination === destination && held.spi === spi)
        return Promise.reject(
          new OverlayError({
            code: "NETLINK",
            op: `XFRM_MSG_NEWSA ${saText(sa)}`,
            errno: "EEXIST",
            message: `the kernel refused XFRM_MSG_NEWSA ${saText(sa)}: EEXIST`,
          }),
        );
    const held = { source, destination, spi, packets: 0, bytes: 0 };
    this.#sas.set(saText(sa), { sa: held, key: hex(key.reveal()) });
    return Promise.resolve();
  }

  remove(sas: readonly SaName[]): Promise<void> {
    for (const sa of sas) this.#sas.delete(saText(sa));
    return Promise.resolve();
  }

  onLoss(listener: (of: "associations" | "policies") => void): void {
    this.#listener = listener;
  }

  removeAll(): Promise<void> {
    this.#sas.clear();
    this.#policies.clear();
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** As `ip xfrm state flush` by somebody else. */
  flushAssociations(): void {
    this.#sas.clear();
    this.#listener("associations");
  }

  /** As `ip xfrm policy flush` by somebody else. */
  flushPolicies(): void {
    this.#policies.clear();
    this.#listener("policies");
  }

  /** The newest SA from one address to another, which is what the kernel sends by; undefined: nothing passes. */
  sendsBy(source: string, destination: string): HeldSa | undefined {
    if (!this.#policies.has(source)) return undefined;
    const all = [...this.#sas.values()].map(({ sa }) => sa);
    return all.findLast((sa) => sa.source === source && sa.destination === destination);
  }

  /** A packet under this SA gets in: the same key is here, and a policy that asks for it. */
  letsIn(sa: SaName, key: string | undefined): boolean {
    return this.#policies.has(sa.destination) && key !== undefined && this.keyOf(sa) === key;
  }

  /** The key of an SA; undefined: it has none such. */
  keyOf(sa: SaName): string | undefined {
    return this.#sas.get(saText(sa))?.key;
  }
}
