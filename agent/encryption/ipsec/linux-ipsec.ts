import type { RawNetlinkSocket } from "netlink";
import { systemRandom } from "../../../shared/node/system.ts";
import { OverlayError } from "../../../shared/errors.ts";
import type { Ip } from "../../../shared/ip.ts";
import { PAIR_KEY_BYTES, PairKey } from "../../core/keys/pair-key.ts";
import { type HeldSa, type SaName } from "../../core/keys/security-association.ts";
import { decodeFrames } from "../../kernel/netlink/codec.ts";
import { NETLINK, openNetlinkSocket } from "../../kernel/netlink/raw-socket.ts";
import { Netlink } from "../../kernel/netlink/socket.ts";
import * as xfrm from "../../kernel/netlink/xfrm.ts";
import type { IpsecKernel } from "./port.ts";
import { classPolicies } from "./policies.ts";

export interface LinuxIpsecOptions {
  readonly local: Ip;
  readonly udpPort: number;
  /** The host's namespace; our own in service, a test's host otherwise. */
  readonly hostNetns?: string;
}

/** What is still told of our own writes after they were answered. */
const ECHO_MS = 50;
const TRIALS = 6;

/** IPsec of the host's namespace over NETLINK_XFRM, see README.md in the folder above. */
export class LinuxIpsec implements IpsecKernel {
  readonly #options: LinuxIpsecOptions;
  readonly #policies: readonly xfrm.Policy[];
  readonly #socket: Netlink;
  readonly #news: RawNetlinkSocket;
  #listener: (of: "associations" | "policies") => void = () => {};
  /** Our own removals, of which the kernel tells as it does of others'. */
  readonly #removing = new Map<string, number>();
  #writing = 0;
  #quietUntilMs = 0;

  constructor(options: LinuxIpsecOptions) {
    this.#options = options;
    this.#policies = classPolicies(options.local);
    this.#socket = new Netlink(options.hostNetns, NETLINK.xfrm);
    const { expire, sa, policy } = xfrm.XFRMNLGRP;
    this.#news = openNetlinkSocket(options.hostNetns, NETLINK.xfrm, [expire, sa, policy]);
    this.#news.on("message", (datagram) => this.#hear(datagram));
    this.#news.on("error", () => this.#lostSomething());
  }

  /** By trial, between the VTEP and itself, where nothing is sent. */
  async check(): Promise<void> {
    const { local } = this.#options;
    const spi = 256 + systemRandom.below(0xffff_fe00);
    const sa = { source: local, destination: local, spi };
    try {
      await this.#try(sa);
    } catch (cause) {
      const { errno, message } = cause as OverlayError;
      throw new OverlayError(
        {
          code: "UNSUPPORTED",
          message: `this host's kernel has no IPsec as needed (${errno ?? message})`,
          next: "load ESP and AES-GCM: `modprobe -a esp4 esp6 gcm seqiv`",
        },
        { cause },
      );
    } finally {
      await this.remove([sa]);
    }
  }

  /** The first of a kernel waits for its modules, which may take longer than an answer may. */
  async #try(sa: SaName): Promise<void> {
    for (let left = TRIALS; ; left--)
      try {
        return await this.put(sa, new PairKey(systemRandom.bytes(PAIR_KEY_BYTES)));
      } catch (error) {
        const { code, errno } = error as OverlayError;
        // There since the one that was not answered.
        if (errno === "EEXIST") return;
        if (code !== "TIMEOUT" || left === 1) throw error;
      }
  }

  async setPolicies(): Promise<void> {
    const { udpPort } = this.#options;
    await this.#write(() =>
      this.#socket.batch(this.#policies.map((policy) => xfrm.putPolicy(policy, udpPort))),
    );
    if (await this.verifyPolicies()) return;
    throw new OverlayError({
      code: "NETLINK",
      op: "XFRM_MSG_GETPOLICY",
      message: "the kernel does not have the IPsec policies that were written",
      next: "look who else changes them: `ip xfrm monitor`",
    });
  }

  async verifyPolicies(): Promise<boolean> {
    const held = new Set((await this.#heldPolicies()).map(xfrm.policyText));
    return this.#policies.every((policy) => held.has(xfrm.policyText(policy)));
  }

  async removeElsewhere(): Promise<void> {
    const elsewhere = await this.#elsewhere();
    if (elsewhere.length > 0) await this.#removePolicies(elsewhere);
  }

  async list(): Promise<HeldSa[]> {
    const messages = await this.#socket.dump(xfrm.dumpSas);
    return messages.flatMap((message) => xfrm.decodeSa(message) ?? []);
  }

  put(sa: SaName, key: PairKey): Promise<void> {
    return this.#socket.request(xfrm.newSa(sa, this.#options.udpPort, key));
  }

  async remove(sas: readonly SaName[]): Promise<void> {
    for (const sa of sas) {
      const name = removal(sa);
      this.#removing.set(name, (this.#removing.get(name) ?? 0) + 1);
    }
    try {
      await this.#gone(sas.map(xfrm.deleteSa));
    } finally {
      // What was not there is not told of.
      setTimeout(() => {
        for (const sa of sas) this.#told(removal(sa));
      }, ECHO_MS).unref();
    }
  }

  onLoss(listener: (of: "associations" | "policies") => void): void {
    this.#listener = listener;
  }

  async removeAll(): Promise<void> {
    this.#listener = () => {};
    await this.remove(await this.list());
    // Blocks last: what is sent meanwhile goes nowhere.
    await this.#removePolicies([...(await this.#elsewhere()), ...this.#policies.toReversed()]);
  }

  close(): Promise<void> {
    this.#socket.close();
    this.#news.close();
    return Promise.resolve();
  }

  /** Of the port, and in the shape of ours. */
  async #heldPolicies(): Promise<xfrm.Policy[]> {
    const messages = await this.#socket.dump(xfrm.dumpPolicies);
    return messages.flatMap((message) => xfrm.decodePolicy(message, this.#options.udpPort) ?? []);
  }

  /** A policy that requires names our reqid: nobody else has written it. */
  async #elsewhere(): Promise<xfrm.Policy[]> {
    const own = new Set(this.#policies.map(xfrm.policyText));
    return (await this.#heldPolicies()).filter(
      (policy) => policy.action === "require" && !own.has(xfrm.policyText(policy)),
    );
  }

  async #removePolicies(policies: readonly xfrm.Policy[]): Promise<void> {
    const { udpPort } = this.#options;
    const requests = policies.map((policy) => xfrm.deletePolicy(policy, udpPort));
    await this.#write(() => this.#gone(requests));
  }

  /** One by one would be a wait each; what is already gone says ESRCH or ENOENT. */
  async #gone(requests: Parameters<Netlink["batch"]>[0]): Promise<void> {
    for (const request of requests)
      try {
        await this.#socket.request(request);
      } catch (error) {
        const { errno } = error as OverlayError;
        if (errno !== "ESRCH" && errno !== "ENOENT") throw error;
      }
  }

  async #write(work: () => Promise<void>): Promise<void> {
    this.#writing++;
    try {
      await work();
    } finally {
      this.#writing--;
      this.#quietUntilMs = performance.now() + ECHO_MS;
    }
  }

  #hear(datagram: Buffer): void {
    // Thrown through the native callback an error would end the process.
    try {
      for (const message of decodeFrames(datagram)) this.#heard(xfrm.lossOf(message));
    } catch {
      this.#lostSomething();
    }
  }

  #heard(loss: xfrm.Loss | undefined): void {
    if (loss === undefined) return;
    if (loss.of === "policies") {
      const quiet = this.#writing > 0 || performance.now() < this.#quietUntilMs;
      if (loss.sure ? this.#writing === 0 : !quiet) this.#listener("policies");
      return;
    }
    const ours = loss.destination !== undefined && this.#told(`${loss.destination} ${loss.spi}`);
    if (!ours) this.#listener("associations");
  }

  #told(name: string): boolean {
    const left = this.#removing.get(name);
    if (left === undefined) return false;
    if (left === 1) this.#removing.delete(name);
    else this.#removing.set(name, left - 1);
    return true;
  }

  #lostSomething(): void {
    this.#listener("associations");
    this.#listener("policies");
  }
}

const removal = ({ destination, spi }: SaName): string => `${destination} ${spi}`;
