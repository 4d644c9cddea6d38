import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { DesiredGuards, DesiredNetwork } from "../../agent/core/data-plane/kernel-state.ts";
import {
  DEFAULT_KEY_EXCHANGE_OPTIONS,
  type KeyExchangeOptions,
} from "../../agent/core/keys/ipsec-options.ts";
import { Ipsec } from "../../agent/encryption/ipsec/ipsec.ts";
import { LinuxIpsec } from "../../agent/encryption/ipsec/linux-ipsec.ts";
import { GuardReconciler } from "../../agent/kernel/guard-reconciler.ts";
import { LinuxKernel } from "../../agent/kernel/linux-kernel.ts";
import { NftGuards } from "../../agent/kernel/nft/nft-guards.ts";
import { NetworkId, type NodeId, Vni } from "../../shared/ids.ts";
import type { Family, Ip } from "../../shared/ip.ts";
import { systemClock, systemRandom } from "../../shared/node/system.ts";
import { silentLog } from "../../shared/ports.ts";
import { largestEspMtuBytes } from "../../shared/esp.ts";
import { captured } from "./capture.ts";
import { dataPlane, endpoint, nodeId, vtepOf } from "./cluster.ts";
import { TestHosts } from "./hosts.ts";
import { eventually } from "./lab-host.ts";
import { MemoryKeyChannels } from "./memory-key-channel.ts";
import { past, turn } from "./turned-host.ts";
import { type FrameEnd, vxlanDatagram } from "./vxlan-datagram.ts";

export const IPSEC_PORT = 7950;
const PLAIN_PORT = 7948;

/** A network of the class, and one in clear beside it. */
export const SECRET = { id: NetworkId.parse("5e".repeat(16)), vni: Vni.parse(300) };
export const CLEAR = { id: NetworkId.parse("c1".repeat(16)), vni: Vni.parse(301) };
type Kind = "secret" | "clear";

/** One host: its guards, its data plane, a container on each network, and what has its keys. */
export interface IpsecHost {
  readonly k: number;
  readonly netns: string;
  readonly node: NodeId;
  readonly vtep: Ip;
  readonly kernel: LinuxKernel;
  readonly guards: NftGuards;
  readonly guardReconciler: GuardReconciler;
  ipsecKernel: LinuxIpsec;
  ipsec: Ipsec;
  readonly container: Readonly<Record<Kind, string>>;
}

/** Hosts 1 to `members` hold the networks; those after them are on the link only. */
export class IpsecHosts {
  readonly hosts: TestHosts;
  readonly family: Family;
  readonly channels = new MemoryKeyChannels();
  /** Further VTEPs of host `k`, which the guards of the others let in as its own: set before `open`. */
  readonly formerVteps = new Map<number, Ip>();
  readonly #members: IpsecHost[] = [];
  readonly #keys: KeyExchangeOptions;

  constructor(count: number, family: Family, keys: Partial<KeyExchangeOptions> = {}) {
    this.hosts = new TestHosts(count);
    this.family = family;
    this.#keys = { ...DEFAULT_KEY_EXCHANGE_OPTIONS, ...keys };
  }

  netns(k: number): string {
    return join(this.hosts.directory, `h${k}`);
  }

  /** In the switch's namespace: the link of host `k`. */
  link(k: number): { netns: string; name: string } {
    return { netns: join(this.hosts.directory, "switch"), name: `p${k}` };
  }

  member(k: number): IpsecHost {
    return this.#members[k - 1]!;
  }

  /** Guards first, then devices; keys only with `startIpsec`. */
  async open(members: number): Promise<void> {
    for (let k = 1; k <= members; k++) this.#members.push(await this.#member(k, members));
  }

  async startIpsec(): Promise<void> {
    for (const host of this.#members) await this.start(host);
  }

  async start(host: IpsecHost): Promise<void> {
    await host.ipsec.start(
      new Map(
        this.#members.filter((other) => other !== host).map(({ node, vtep }) => [node, vtep]),
      ),
    );
  }

  /** The devices of a network, mended in place. */
  extend(host: IpsecHost, kind: Kind, localVtep = host.vtep): Promise<void> {
    const desired = { ...this.#desired(host.k, kind), localVtep };
    return host.kernel.apply(desired.network, [{ kind: "extend", desired }]);
  }

  /** Where the encrypted network's container of host `k` is, for another. */
  putRemote(host: IpsecHost, k: number, vtep: Ip): Promise<void> {
    const { mac, ipv4 } = endpoint(k, 5);
    const remotes = [{ mac, vtep, ips: [ipv4!] }];
    return host.kernel.apply(SECRET.id, [{ kind: "putRemotes", remotes }]);
  }

  /** As a new process of the agent: nothing is remembered but what the kernel has. */
  async restart(host: IpsecHost): Promise<void> {
    await host.ipsec.stop();
    await host.ipsecKernel.close();
    host.ipsecKernel = this.#ipsecKernel(host.k);
    host.ipsec = this.#ipsec(host.k, host.ipsecKernel);
    await this.start(host);
  }

  /** What passed the link of host `k` while `work` was done. */
  captured(k: number, work: () => Promise<unknown>): Promise<Buffer[]> {
    return captured(this.hosts.directory, k, work);
  }

  /** Every pair has both its directions. */
  ready(): boolean {
    return this.#members.every((host) =>
      this.#members.every((other) => other === host || host.ipsec.ready(other.node)),
    );
  }

  /** The container's address on the network. */
  address(k: number, kind: Kind): Ip {
    return endpoint(k, kind === "secret" ? 5 : 6).ipv4!;
  }

  /** What host `from` would send for its container to that of host `to`: `marker` in a datagram. */
  frame(from: number, to: number, marker: Buffer): Buffer {
    const end = (k: number): FrameEnd => ({ mac: endpoint(k, 5).mac, ip: endpoint(k, 5).ipv4! });
    return vxlanDatagram(SECRET.vni, end(from), end(to), marker);
  }

  /** A datagram from a namespace to the class's port of host `to`. */
  inject(from: string, to: number, bytes: Buffer, options = ""): void {
    const file = join(this.hosts.directory, "datagram");
    writeFileSync(file, bytes);
    const member = this.#members.some(({ netns }) => netns === from);
    // Each time: who flushes a host's rules takes this with them.
    if (member) turn(from, [IPSEC_PORT]);
    const port = member ? past(IPSEC_PORT) : IPSEC_PORT;
    const target =
      this.family === 4
        ? `UDP-SENDTO:${vtepOf(to, 4)}:${port}`
        : `UDP6-SENDTO:[${vtepOf(to, 6)}]:${port}`;
    try {
      this.hosts.in(from, `socat -u OPEN:${file} ${target}${options}`);
    } catch {
      // A policy that blocks tells the sender: EPERM, or no key: EAGAIN.
    }
  }

  /** Packets that the container of host `k` got on the encrypted network. */
  received(k: number): number {
    const text = this.hosts.in(this.member(k).container.secret, "ip -s -j link show dev eth0");
    const [link] = JSON.parse(text) as { stats64: { rx: { packets: number } } }[];
    return link?.stats64.rx.packets ?? 0;
  }

  ping(from: number, to: number, kind: Kind, ...options: string[]): Promise<number> {
    const { container } = this.member(from);
    return this.hosts.ping(container[kind], this.address(to, kind), ...options);
  }

  /** Counters of /proc/net/xfrm_stat that are not 0 (linux/snmp.h, all of them errors). */
  xfrmErrors(k: number): Record<string, number> {
    const lines = this.hosts.in(this.netns(k), "cat /proc/net/xfrm_stat").trim().split("\n");
    const counters = lines.map((line) => line.trim().split(/\s+/) as [string, string]);
    return Object.fromEntries(
      counters.flatMap(([name, value]) => (Number(value) === 0 ? [] : [[name, Number(value)]])),
    );
  }

  async close(): Promise<void> {
    for (const host of this.#members) {
      await host.ipsec.stop();
      await host.ipsecKernel.close();
      await host.guardReconciler.stop();
      await host.guards.close();
      for (const network of await host.kernel.list())
        await host.kernel.apply(network, [{ kind: "retract" }]);
      await host.kernel.close();
    }
    this.hosts.close();
  }

  #ipsecKernel(k: number): LinuxIpsec {
    return new LinuxIpsec({
      local: vtepOf(k, this.family),
      udpPort: IPSEC_PORT,
      hostNetns: this.netns(k),
    });
  }

  #ipsec(k: number, kernel: LinuxIpsec): Ipsec {
    return new Ipsec(
      {
        local: vtepOf(k, this.family),
        keys: this.#keys,
        readPeriodMs: 2000,
        guards: { coalesceMs: 5, retryFirstMs: 100, retryMostMs: 100 },
      },
      {
        kernel,
        channel: this.channels.of(nodeId(k)),
        clock: systemClock,
        random: systemRandom,
        log: silentLog,
      },
    );
  }

  async #member(k: number, members: number): Promise<IpsecHost> {
    const netns = this.netns(k);
    const kernel = new LinuxKernel({
      netnsDirectory: join(this.hosts.directory, `netns${k}`),
      hostNetns: netns,
    });
    const guards = new NftGuards({ hostNetns: netns });
    const guardReconciler = new GuardReconciler(guards, silentLog);
    const ipsecKernel = this.#ipsecKernel(k);
    // Where everything is slow, nft is given up before it is done with a kernel's first rules.
    await eventually(120_000, "the guards", () =>
      guardReconciler.start(() => this.desiredGuards(k, members)),
    );
    await ipsecKernel.setPolicies();
    return {
      k,
      netns,
      node: nodeId(k),
      vtep: vtepOf(k, this.family),
      kernel,
      guards,
      guardReconciler,
      ipsecKernel,
      ipsec: this.#ipsec(k, ipsecKernel),
      container: {
        secret: await this.#network(kernel, netns, k, members, "secret"),
        clear: await this.#network(kernel, netns, k, members, "clear"),
      },
    };
  }

  async #network(
    kernel: LinuxKernel,
    netns: string,
    k: number,
    members: number,
    kind: Kind,
  ): Promise<string> {
    const desired = this.#desired(k, kind);
    const id = desired.network;
    const number = kind === "secret" ? 5 : 6;
    const others = Array.from({ length: members }, (_, i) => i + 1).filter((j) => j !== k);
    const local = endpoint(k, number);
    await kernel.apply(id, [
      { kind: "extend", desired },
      {
        kind: "putRemotes",
        remotes: others.map((j) => ({
          mac: endpoint(j, number).mac,
          vtep: vtepOf(j, this.family),
          ips: [endpoint(j, number).ipv4!],
        })),
      },
      { kind: "putPort", port: { endpoint: local.id, mac: local.mac, ips: [local.ipv4!] } },
    ]);
    const container = this.hosts.netns(`${kind}${k}`);
    const link = kernel.containerLink(local.id);
    this.hosts.in(netns, `ip link set ${link} netns ${container} name eth0`);
    this.hosts.in(container, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    this.hosts.in(container, "ip link set eth0 up");
    this.hosts.in(container, `ip address add ${local.ipv4!}/16 dev eth0`);
    // Quiet: neighbours are not asked again now and then.
    for (const j of others) {
      const { ipv4, mac } = endpoint(j, number);
      this.hosts.in(container, `ip neigh replace ${ipv4!} lladdr ${mac} dev eth0 nud permanent`);
    }
    return container;
  }

  #desired(k: number, kind: Kind): DesiredNetwork {
    const { id, vni } = kind === "secret" ? SECRET : CLEAR;
    const plain = dataPlane(k, this.family);
    return {
      ...plain,
      network: id,
      vni,
      udpPort: kind === "secret" ? IPSEC_PORT : PLAIN_PORT,
      mtuBytes: kind === "secret" ? largestEspMtuBytes(this.family, 1500) : plain.mtuBytes,
      // Quiet: a gateway's IPv6 address would be told to the containers (MLD), and be counted.
      gateways: plain.gateways.slice(0, 1),
    };
  }

  #vteps(k: number): Ip[] {
    const former = this.formerVteps.get(k);
    return [vtepOf(k, this.family), ...(former === undefined ? [] : [former])];
  }

  desiredGuards(k: number, members: number): DesiredGuards {
    const others = Array.from({ length: members }, (_, i) => i + 1).filter((j) => j !== k);
    return {
      underlayFamily: this.family,
      classPorts: { plain: PLAIN_PORT, wireguard: 7949, ipsec: IPSEC_PORT },
      meshPorts: [7947, 7952],
      ipsec: true,
      exposed: [],
      sealed: [],
      vteps: others.flatMap((j) => this.#vteps(j)),
      hosting: others.flatMap((j) =>
        this.#vteps(j).flatMap((vtep) => [SECRET, CLEAR].map(({ vni }) => ({ vtep, vni }))),
      ),
      speakers: others.flatMap((j) =>
        this.#vteps(j).flatMap((vtep) =>
          [
            { vni: SECRET.vni, held: endpoint(j, 5) },
            { vni: CLEAR.vni, held: endpoint(j, 6) },
          ].map(({ vni, held }) => ({
            vtep,
            vni,
            members: [{ mac: held.mac, ips: [held.ipv4!] }],
          })),
        ),
      ),
    };
  }
}
