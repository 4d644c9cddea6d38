import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { DEFAULT_PORTS } from "../shared/cluster-state.ts";
import { asFailure, OverlayError } from "../shared/errors.ts";
import type { NetworkId } from "../shared/ids.ts";
import { Ip } from "../shared/ip.ts";
import { removeTable as removeVips } from "./balancing/namespace-table.ts";
import { removeTable } from "./names/server/gate.ts";
import { LinuxIpsec } from "./encryption/ipsec/linux-ipsec.ts";
import { LinuxWireguard } from "./encryption/wireguard/linux-wireguard.ts";
import { LinuxDataPathProof } from "./kernel/proof/data-path-proof.ts";
import { LinuxEgress } from "./kernel/egress/linux-egress.ts";
import { LinuxKernel } from "./kernel/linux-kernel.ts";
import { isPinnedNetns } from "./kernel/netns.ts";
import { NftGuards } from "./kernel/nft/nft-guards.ts";
import { WayOutPorts } from "./kernel/way-out-ports.ts";
import { readMember } from "./membership/member.ts";
import type { AgentFiles } from "./membership/membership-files.ts";

const ANY_ADDRESS = Ip.parse("127.0.0.1");
/** Where Docker pins its containers' namespaces. */
const SANDBOXES = "/run/docker/netns";

export interface RemainsOptions {
  readonly netnsDirectory: string;
  /** The host's namespace; our own in service, a test's host otherwise. */
  readonly hostNetns?: string;
  /** Of the cluster's settings, where they can be read. */
  readonly ipsecUdpPort?: number | undefined;
}

/**
 * All that is ours in this host's kernel, found without an agent and without its files: by the names and marks
 * that each kind of object has (the READMEs of kernel, dns and encryption). No agent may run meanwhile.
 */
export class LinuxLeftovers {
  readonly #options: RemainsOptions;

  constructor(options: RemainsOptions) {
    this.#options = options;
  }

  /** Networks with ports of containers that run. @throws NETLINK: who cannot be asked may have some */
  async busy(): Promise<NetworkId[]> {
    const kernel = new LinuxKernel(this.#options);
    try {
      const busy: NetworkId[] = [];
      for (const network of await kernel.list())
        if ((await kernel.read(network)).ports.some(({ host }) => host === undefined))
          busy.push(network);
      return busy;
    } finally {
      await kernel.close();
    }
  }

  /** Whether there is anything. Namespaces tell: whatever else there is, is made after one of them. */
  any(): boolean {
    return this.#namespaces().length > 0;
  }

  /**
   * What goes around a network stays dropped, whatever becomes of the guards, until `remove`. True: it did already.
   * @throws NETLINK
   */
  async hold(): Promise<boolean> {
    const guards = new NftGuards(this.#options);
    try {
      return await guards.hold();
    } finally {
      await guards.close();
    }
  }

  /**
   * One thing that cannot be taken away stops no other. Where containers run on, what is held stays.
   * @throws NETLINK: what is left, and why
   */
  async remove(containers: "run on" | "are none" = "are none"): Promise<void> {
    const failures: string[] = [];
    const step = async (what: string, work: () => Promise<void>): Promise<void> => {
      await work().catch((error: unknown) => failures.push(`${what}: ${asFailure(error).message}`));
    };
    // Asked while networks are there; who cannot be asked may have some.
    const busy = await this.busy().catch(() => undefined);
    const keepSealed = containers === "run on" || busy === undefined || busy.length > 0;
    await step("networks", () => this.#networks());
    await step("WireGuard", () => this.#wireguard());
    await step("IPsec", () => this.#ipsec());
    await step("the data path's proofs", () => this.#proof());
    await step("guards", () => new NftGuards(this.#options).remove({ keepSealed }));
    await step("docker_gwbridge's filter", () => this.#wayOut());
    await step("rules of the ways out", () => this.#egress());
    await step("rules for names in containers", () => this.#inSandboxes(removeTable));
    await step("virtual addresses in containers", () => this.#inSandboxes(removeVips));
    const left = [...failures, ...this.#namespaces().map((name) => `namespace ${name}`)];
    if (left.length === 0) return;
    throw new OverlayError({
      code: "NETLINK",
      op: "withdraw",
      message: `something of this host's networks is left: ${left.join("; ")}`,
      next: "run the command again; what stays even then goes with a restart of the machine",
    });
  }

  async #networks(): Promise<void> {
    const kernel = new LinuxKernel(this.#options);
    try {
      for (const network of await kernel.list()) await kernel.apply(network, [{ kind: "retract" }]);
    } finally {
      await kernel.close();
    }
  }

  async #wireguard(): Promise<void> {
    const tunnel = new LinuxWireguard(this.#options);
    try {
      await tunnel.remove();
    } finally {
      await tunnel.close();
    }
  }

  /** Which address the policies were made for is not known without files, and need not be. */
  async #ipsec(): Promise<void> {
    const { ipsecUdpPort: udpPort = DEFAULT_PORTS.vxlanIpsec, ...options } = this.#options;
    let kernel: LinuxIpsec;
    try {
      kernel = new LinuxIpsec({ ...options, local: ANY_ADDRESS, udpPort });
    } catch {
      // Without IPsec in the kernel there is nothing to remove.
      return;
    }
    try {
      await kernel.removeAll();
    } finally {
      await kernel.close();
    }
  }

  async #proof(): Promise<void> {
    for (const each of ["none", "ipsec"] as const) {
      const proof = new LinuxDataPathProof({ ...this.#options, of: each });
      try {
        await proof.remove();
      } finally {
        await proof.close();
      }
    }
  }

  /** Its ports stay isolated, as long as their containers are there. */
  async #wayOut(): Promise<void> {
    const ports = new WayOutPorts(this.#options);
    try {
      await ports.remove();
    } finally {
      ports.close();
    }
  }

  async #egress(): Promise<void> {
    const egress = new LinuxEgress(this.#options);
    try {
      await egress.remove();
    } finally {
      egress.close();
    }
  }

  /** Without an agent these rules lead nowhere, or to who is no member any more. */
  async #inSandboxes(remove: (path: string) => void): Promise<void> {
    const names = existsSync(SANDBOXES) ? readdirSync(SANDBOXES) : [];
    for (const path of names.map((name) => join(SANDBOXES, name)))
      if (isPinnedNetns(path)) remove(path);
  }

  #namespaces(): string[] {
    const { netnsDirectory } = this.#options;
    return existsSync(netnsDirectory) ? readdirSync(netnsDirectory).toSorted() : [];
  }
}

/** Of the host with this membership, or what can be read of it. */
export async function remainsOf(runDirectory: string, files: AgentFiles): Promise<LinuxLeftovers> {
  const member = await readMember(files).catch(() => undefined);
  return new LinuxLeftovers({
    netnsDirectory: join(runDirectory, "netns"),
    ipsecUdpPort: member?.settings.ports.vxlanIpsec,
  });
}
