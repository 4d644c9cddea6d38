import { portLink, type Step, type Wanted } from "../../agent/core/data-plane/kernel-state.ts";
import { entriesOf } from "../../agent/core/data-plane/plan.ts";
import { readNetwork } from "../../agent/core/data-plane/read-network.ts";
import type { ClusterState, NetworkRecord, NodeRecord } from "../../shared/cluster-state.ts";
import {
  compareVersions,
  endpointsHash,
  type NetworkDocument,
  networkSigningBytes,
  type Signed,
  type Version,
} from "../../shared/documents.ts";
import { hex } from "../../shared/codec.ts";
import type { EndpointId, NetworkId, NodeId } from "../../shared/ids.ts";
import { cidrOverlaps, familyOf, type Ip, ipToNumber, rangeOf } from "../../shared/ip.ts";
import { derivedMacs, type Mac } from "../../shared/mac.ts";
import { rootText } from "../../shared/state/head.ts";
import { ObjectTree } from "../../shared/state/object-tree.ts";
import { objectsOf } from "../../shared/state/objects.ts";
import type { SimAgent } from "./sim-agent.ts";
import type { Container } from "./container.ts";
import type { SimHost } from "./sim-host.ts";
import { oneShotSha256 } from "./stand-ins.ts";
import type { World } from "./world.ts";

/** Whose entry stands in a kernel. */
interface Entry {
  readonly endpoint: EndpointId;
  readonly owner: NodeId;
}

interface Shadow {
  readonly byMac: Map<Mac, Entry>;
  readonly byIp: Map<Ip, Entry>;
}

const MAX_VIOLATIONS = 20;
/** At each revision. */
const HOSTS_THAT_LOOK = 16;
/** Who was behind this short a time ago may have been asked. */
const CATCHING_UP_MS = 2500;

/**
 * What must hold at every step, not only when all is quiet: nothing is deleted from a kernel for which
 * something runs, nothing goes back, no address is given twice.
 */
export class Monitor {
  readonly violations: string[] = [];
  readonly #world: World;
  readonly #shadows = new WeakMap<SimHost, Map<NetworkId, Shadow>>();
  /** Containers of members, by network and address. */
  readonly #held = new Map<string, { host: SimHost; container: Container }>();
  /** Hosts that two machines claimed to be: what of theirs stands is open until the end. */
  readonly #disputed = new Set<NodeId>();
  readonly #vnis = new Map<number, NetworkId>();
  readonly #indices = new Map<number, NodeId>();
  #members: { readonly of: unknown; readonly ids: ReadonlySet<NodeId> } = {
    of: undefined,
    ids: new Set(),
  };
  /** Of containers that ended. */
  readonly #names = new Map<NetworkId, Set<string>>();

  constructor(world: World) {
    this.#world = world;
  }

  violation(text: string): void {
    this.#world.trace(`VIOLATION ${text}`);
    if (this.violations.length < MAX_VIOLATIONS)
      this.violations.push(`${Math.round(this.#world.queue.nowMs)} ms: ${text}`);
  }

  dispute(node: NodeId): void {
    this.#disputed.add(node);
  }

  isDisputed(node: NodeId): boolean {
    return this.#disputed.has(node);
  }

  /** A host that was never cloned is one machine, whatever of its past it meets. */
  otherMachineNamed(host: SimHost, bootId: string): void {
    if (!this.#disputed.has(host.node)) this.violation(`h${host.k} takes ${bootId} for a clone`);
  }

  /** Before its container starts. */
  addressGiven(host: SimHost, record: NetworkRecord, ips: readonly Ip[]): void {
    for (const ip of ips) {
      const other = this.#held.get(`${record.id} ${ip}`);
      // Two machines of one key have the same blocks.
      const cloned =
        this.#disputed.has(host.node) || this.#disputed.has(other?.host.node ?? host.node);
      if (other !== undefined && !cloned && this.#isMember(host.node))
        this.violation(
          `h${host.k} gives ${ip} of ${record.name}, which a container of h${other.host.k} has`,
        );
      if (record.subnets.some((subnet) => isReservedIn(subnet, ip)))
        this.violation(`h${host.k} gives ${ip} of ${record.name}, which no container may have`);
    }
  }

  started(host: SimHost, container: Container): void {
    // Who was evicted and has not heard it yet goes on with blocks that are others' by now.
    if (host.isClone || !this.#isMember(host.node)) return;
    for (const ip of container.ips)
      this.#held.set(`${container.network} ${ip}`, { host, container });
  }

  stopped(container: Container): void {
    const names = this.namesBefore(container.network);
    this.#names.set(container.network, new Set([...names, ...container.names]));
    for (const ip of container.ips) {
      const key = `${container.network} ${ip}`;
      if (this.#held.get(key)?.container === container) this.#held.delete(key);
    }
  }

  /** What containers of the network were called that ended. */
  namesBefore(network: NetworkId): ReadonlySet<string> {
    return this.#names.get(network) ?? new Set();
  }

  /** A virtual address is of one name, and no host's to give. */
  vipsDecided({ vips = [], blocks }: ClusterState): void {
    const names = new Map<string, string>();
    for (const { network, name, ips, blocks: kept } of vips) {
      for (const ip of ips) {
        const other = names.get(`${network} ${ip}`);
        if (other !== undefined)
          this.violation(`${ip} is the virtual address of ${other} and ${name}`);
        names.set(`${network} ${ip}`, name);
        const holder = this.#held.get(`${network} ${ip}`)?.host.node;
        if (holder !== undefined && this.#isMember(holder) && !this.#disputed.has(holder))
          this.violation(`${ip} is the virtual address of ${name}, and a container has it`);
      }
      const given = blocks.find(
        (held) => held.network === network && kept.some((own) => cidrOverlaps(own, held.block)),
      );
      if (given !== undefined)
        this.violation(`${given.block} is a host's, and kept for the virtual address of ${name}`);
    }
  }

  networkMade({ id, vni }: NetworkRecord): void {
    const other = this.#vnis.get(vni);
    if (other !== undefined && other !== id) this.violation(`VNI ${vni} was used before`);
    this.#vnis.set(vni, id);
  }

  hostAdmitted({ id, index }: NodeRecord): void {
    const other = this.#indices.get(index);
    if (other !== undefined && other !== id) this.violation(`index ${index} was used before`);
    this.#indices.set(index, id);
  }

  versionWentOn(agent: SimAgent, what: string, held: Signed | undefined, next: Signed): void {
    // Who was evicted and knows it has no word any more that could go on.
    if (held === undefined || !this.#isMember(agent.node)) return;
    const order = compareVersions(next.version, held.version);
    if (order > 0 || (order === 0 && hex(next.signature) > hex(held.signature))) return;
    const [is, was] = [next, held].map(
      ({ version: { incarnation, seq } }) => `${incarnation}.${seq}`,
    );
    this.violation(`h${agent.host.k} takes ${what} ${is} after ${was}`);
  }

  /** What is kept as a host's word on a network is, endpoint by endpoint, what that host signed. */
  documentKept({ host }: SimAgent, document: NetworkDocument): void {
    const { network, node, version, endpoints, signature } = document;
    const hash = endpointsHash(oneShotSha256, endpoints);
    const bytes = networkSigningBytes(network, node, version, hash);
    if (!this.#world.keys.verifier.verify(node, bytes, signature))
      this.violation(`h${host.k} keeps of ${node} on ${network} what that has not signed`);
  }

  revisionWentOn(agent: SimAgent, held: number, next: number): void {
    if (next <= held) this.violation(`h${agent.host.k} takes revision ${next} after ${held}`);
  }

  /** Of two states of one revision nobody goes from the one with the greater root to the other. */
  forkIsWon(
    { host }: SimAgent,
    held: ClusterState | undefined,
    next: ClusterState | undefined,
  ): void {
    if (held === next || held?.revision !== next?.revision) return;
    const [was, is] = [held, next].map((state) =>
      rootText(ObjectTree.of(objectsOf(state!), oneShotSha256)),
    ) as [string, string];
    if (is < was) this.violation(`h${host.k} takes the lesser of two states of one revision`);
  }

  /**
   * Whole or followed from change to change, what is held was signed as it is. In a large cluster a few hosts look at each
   * revision, in turn: looking costs what the state is long.
   */
  stateIsSigned({ host, tables }: SimAgent): void {
    const { state } = tables;
    const turns = Math.ceil(this.#world.options.nodes / HOSTS_THAT_LOOK);
    if (((state?.revision ?? 0) + host.k) % turns !== 0) return;
    if (state !== undefined && !this.#world.trust.isSigned(state))
      this.violation(`h${host.k} holds of revision ${state.revision} what nobody signed`);
  }

  /** The machine went off, and its kernel with it. */
  kernelGone(host: SimHost): void {
    this.#shadows.delete(host);
  }

  /** Its entries lead nobody anywhere any more; a container that comes before they went begins anew. */
  left(host: SimHost, network: NetworkId): void {
    this.#shadows.get(host)?.delete(network);
  }

  /** What a step takes away is here: a container may have begun, and its port not be made yet. */
  stepBegins(host: SimHost, network: NetworkId, step: Step): void {
    if (step.kind !== "removePort" && step.kind !== "retract") return;
    const { ports } = host.kernel.readNow(network);
    const taken = ports.filter(
      ({ endpoint }) => step.kind === "retract" || portLink(endpoint) === step.link,
    );
    this.#mustNotRun(
      host,
      network,
      taken.map(({ endpoint }) => endpoint),
    );
  }

  /** Called with steps that were carried out, one by one. */
  stepDone(
    agent: SimAgent,
    record: NetworkRecord | undefined,
    network: NetworkId,
    step: Step,
  ): void {
    const { host } = agent;
    const shadow = this.#shadow(host, network);
    switch (step.kind) {
      case "putRemotes": {
        const holders = record === undefined ? [] : readNetwork(agent.tables, record).holders;
        const macs = new Map(holders.map((holder) => [holder.endpoint.mac, holder]));
        for (const { mac, ips } of step.remotes) {
          const holder = macs.get(mac);
          if (holder === undefined) continue;
          const entry = { endpoint: holder.endpoint.id, owner: holder.node };
          shadow.byMac.set(mac, entry);
          for (const ip of ips) shadow.byIp.set(ip, entry);
        }
        return;
      }
      case "removeFdb":
        this.mustHaveAsked(agent, network, `does ${step.kind}`);
        for (const { mac } of step.entries) {
          this.#mustBeGone(agent, record, shadow.byMac.get(mac), mac);
          shadow.byMac.delete(mac);
        }
        return;
      case "removeNeighbours":
        this.mustHaveAsked(agent, network, `does ${step.kind}`);
        for (const ip of step.ips) {
          this.#mustBeGone(agent, record, shadow.byIp.get(ip), ip);
          shadow.byIp.delete(ip);
        }
        return;
      case "retract":
        this.#shadows.get(host)?.delete(network);
        return;
      case "removeFlood":
        this.mustHaveAsked(agent, network, `does ${step.kind}`);
        return;
      case "extend":
      case "removePort":
      case "putFlood":
      case "putPort":
    }
  }

  /** All steps of a pass succeeded: the kernel has what was wanted, said once more, not asked of the plan. */
  passed(host: SimHost, network: NetworkId, wanted: Wanted | undefined): void {
    if (wanted?.kind !== "present") return;
    const { remotes, ports } = wanted.desired;
    const actual = host.kernel.readNow(network);
    const isRemote = new Set([
      ...actual.vxlanFdb.map(({ mac, vtep }) => `${mac}@${vtep}`),
      ...actual.bridgeFdb,
      ...actual.neighbours.map(({ ip, mac }) => `${ip} ${mac}`),
    ]);
    const shouldRemote = new Set(
      entriesOf(remotes).flatMap(({ mac, vtep, ips }) => [
        `${mac}@${vtep}`,
        mac,
        ...ips.map((ip) => `${ip} ${mac}`),
      ]),
    );
    const isHere = new Set(actual.ports.map(({ endpoint }) => endpoint));
    const missing =
      [...shouldRemote].find((item) => !isRemote.has(item)) ??
      ports.find(({ endpoint }) => !isHere.has(endpoint))?.endpoint;
    if (missing !== undefined) this.violation(`h${host.k} passed, and its kernel lacks ${missing}`);
    const left = wanted.prune && [...isRemote].find((item) => !shouldRemote.has(item));
    if (left) this.violation(`h${host.k} passed, and its kernel keeps ${left}`);
  }

  #shadow(host: SimHost, network: NetworkId): Shadow {
    let shadows = this.#shadows.get(host);
    if (shadows === undefined) this.#shadows.set(host, (shadows = new Map()));
    let shadow = shadows.get(network);
    if (shadow === undefined)
      shadows.set(network, (shadow = { byMac: new Map(), byIp: new Map() }));
    return shadow;
  }

  /** Whether what it leads to runs or not: without a peer's word nobody can know. */
  mustHaveAsked({ host, tables, answers }: SimAgent, network: NetworkId, what: string): void {
    if (host.lies || answers.allow(network, host.node, tables)) return;
    this.violation(`h${host.k} ${what} on ${network}, and no peer has answered yet`);
  }

  /** A remote container's entry is deleted: it must not run any more. */
  #mustBeGone(
    agent: SimAgent,
    record: NetworkRecord | undefined,
    entry: Entry | undefined,
    what: string,
  ): void {
    const { host, tables } = agent;
    if (entry === undefined || host.isClone || host.lies || !this.#isMember(host.node)) return;
    const owner = this.#world.hostOf(entry.owner);
    if (owner === undefined || owner.lies || this.#disputed.has(entry.owner)) return;
    if (!this.#isMember(entry.owner)) return;
    if (!owner.containers.has(entry.endpoint)) return;
    // Its new words are older, by version, than those of its lost disk, until it has met these.
    if (owner.diskIsBehind()) return;
    if (host.diskIsBehind() && this.#othersAreBehind(agent, owner, record?.id)) return;
    const ignored = record && readNetwork(tables, record).ignored;
    const reason = ignored?.find(({ endpoint }) => endpoint === entry.endpoint)?.reason ?? "unsaid";
    // An older word than the owner's last: its guards let nothing of the owner in either way.
    const heard = tables.hosts.get(owner.node)?.version;
    const said = owner.lastWord();
    const behind = heard !== undefined && said !== undefined && compareVersions(heard, said) < 0;
    if (reason === "not-hosting" && behind) return;
    // Its block was given back and given again: the state that says so is on its way, and with it the entry.
    const { revision = 0 } = owner.agent?.tables.state ?? {};
    if (reason === "not-in-block" && (tables.state?.revision ?? 0) < revision) return;
    // It kept a MAC that another's address derives, which both heard of too late.
    if (reason === "mac-taken" && !isDerived(owner.containers.get(entry.endpoint))) return;
    this.violation(`h${host.k} deletes ${what} of a container that runs on h${owner.k}: ${reason}`);
  }

  /**
   * In sync is who has compared with one peer. A host that has lost its disk and compared with one that
   * is behind too takes away what it puts back moments later: two faults at once are not ruled out.
   */
  #othersAreBehind(agent: SimAgent, owner: SimHost, network: NetworkId | undefined): boolean {
    if (network === undefined) return false;
    const said = owner.agent?.tables.documents(network).get(owner.node)?.version;
    if (said === undefined) return true;
    const word = owner.agent?.tables.hosts.get(owner.node)?.version;
    const isBehind = (held: Version | undefined, newest: Version | undefined): boolean =>
      held === undefined || newest === undefined || compareVersions(held, newest) < 0;
    const now = this.#world.queue.nowMs;
    return this.#world.hosts.some(({ agent: other }) => {
      if (other === undefined || other === agent) return false;
      // That the owner is on the network at all.
      const [heard, since] = [
        other.tables.hosts.get(owner.node),
        other.saved.heardSinceMs(owner.node),
      ];
      if (isBehind(heard?.version, word) || now - since < CATCHING_UP_MS) return true;
      if (!other.localNetworks.has(network)) return false;
      if (isBehind(other.tables.documents(network).get(owner.node)?.version, said)) return true;
      return now - other.saved.heldSinceMs(network, owner.node) < CATCHING_UP_MS;
    });
  }

  #mustNotRun(host: SimHost, network: NetworkId, endpoints: readonly EndpointId[]): void {
    const { networks } = this.#world.controller.decided;
    if (!networks.some(({ id }) => id === network)) return;
    if (host.isClone || this.#disputed.has(host.node) || !this.#isMember(host.node)) return;
    const running = endpoints.find((id) => host.containers.has(id));
    if (running !== undefined)
      this.violation(`h${host.k} takes the port of its running container ${running} away`);
  }

  #isMember(node: NodeId): boolean {
    const { nodes } = this.#world.controller.decided;
    if (nodes !== this.#members.of)
      this.#members = { of: nodes, ids: new Set(nodes.map(({ id }) => id)) };
    return this.#members.ids.has(node);
  }
}

function isDerived(container: Container | undefined): boolean {
  const [ip] = container?.ips ?? [];
  return ip !== undefined && derivedMacs(ip).includes(container!.mac);
}

/** Said here once more, not asked of the code under test. */
function isReservedIn(record: NetworkRecord["subnets"][number], ip: Ip): boolean {
  const { first, last, family } = rangeOf(record.subnet);
  if (family !== familyOf(ip)) return false;
  const value = ipToNumber(ip);
  return (
    value === first ||
    (family === 4 && value === last) ||
    ip === record.gateway ||
    record.reserved?.includes(ip) === true
  );
}
