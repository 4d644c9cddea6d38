import { DEFAULT_TRANSIT_POOL, transitPools } from "../../agent/core/data-plane/transit.ts";
import { createHash, randomBytes } from "node:crypto";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { EncryptionAdapters } from "../../agent/encryption/adapters.ts";
import type { AgentAdapters } from "../../agent/adapters.ts";
import { Agent, type AgentParts } from "../../agent/agent.ts";
import { always, delegateIpam, delegateNetwork } from "../../agent/docker/plugin/delegate.ts";
import { PluginServer } from "../../agent/docker/plugin/server.ts";
import { FakeBalancing } from "../fakes/fake-balancing.ts";
import { FakeNameServer } from "../fakes/fake-name-server.ts";
import { FakeWireguard, FakeUnderlay } from "../fakes/fake-wireguard.ts";
import { FakeIpsec } from "../fakes/fake-ipsec.ts";
import { Secret } from "../../agent/encryption/secret.ts";
import { MemoryMesh } from "../fakes/memory-mesh.ts";
import { FakeKernel } from "../fakes/fake-kernel.ts";
import type { Step } from "../../agent/core/data-plane/kernel-state.ts";
import type { DataPathProof, Guards, Kernel, Egress, WayOut } from "../../agent/kernel/port.ts";
import type { Membership } from "../../agent/membership/membership-files.ts";
import { MemoryStore } from "../../agent/store/memory-store.ts";
import type { HostLinks } from "../../agent/membership/underlay.ts";
import { Controller } from "../../controller/controller.ts";
import { admitNode } from "../../controller/core/admission.ts";
import { newCluster } from "../../controller/core/record.ts";
import { MemoryStore as ControllerStore } from "../fakes/memory-controller-store.ts";
import { toBase64Url } from "../../shared/base64url.ts";
import type { NodeId } from "../../shared/ids.ts";
import { Ip } from "../../shared/ip.ts";
import { type Identity, identityFromSeed } from "../../shared/node/identity.ts";
import { sha256, systemClock } from "../../shared/node/system.ts";
import { silentLog } from "../../shared/ports.ts";
import { sealKeyPair } from "../../shared/sealed-box.ts";
import { signCertificate, signClaim } from "../../shared/trust.ts";
import type { UnderlayFacts } from "../../shared/underlay.ts";
import { FillableStore } from "./fillable-store.ts";
import { MemoryControl } from "./memory-control.ts";
import { type Answer, callPlugin } from "./plugin-client.ts";
import { seededRandom } from "./seeded-random.ts";
import { storedRecord, storeRecord } from "./stored-record.ts";

const guards: Guards = {
  set: async () => {},
  verify: async () => true,
  counters: async () => ({}),
  work: () => ({ read: 0, written: 0, drifts: 0 }),
  onTamper: () => {},
  remove: async () => {},
  close: async () => {},
};

const wayOut: WayOut = {
  set: async () => {},
  faults: async () => [],
  onChange: () => {},
  recheck: () => {},
  remove: async () => {},
  close: () => {},
};

const egress: Egress = {
  set: async () => {},
  blocked: () => undefined,
  faults: async () => [],
  counters: async () => ({}),
  onChange: () => {},
  recheck: () => {},
  remove: async () => {},
  close: () => {},
};

function proofUnless(unreachable: ReadonlySet<string>): DataPathProof {
  return {
    set: async () => {},
    faults: async () => [],
    onLoss: () => {},
    probe: async (address) => ({
      address,
      roundTripMs: unreachable.has(address) ? undefined : 1,
      bytes: 1450,
    }),
    remove: async () => {},
    close: async () => {},
  };
}

/** What outlives an agent: devices, security associations, the key's file. */
function encryptionOf(address: Ip, underlay: FakeUnderlay): FakeEncryption {
  const ipsec = new FakeIpsec();
  let key = new Secret(randomBytes(32));
  const wireguard = new FakeWireguard(underlay, address, () => Date.now());
  const down: number[] = [];
  const silentInIpsec = new Set<string>();
  return {
    wireguard,
    ipsecKernel: ipsec,
    down,
    underlay,
    wireguardKey: () => key,
    keepWireguardKey: (next) => void (key = next),
    transportGuards: () => guards,
    ipsec: () => ipsec,
    silentInIpsec,
    ipsecProof: proofUnless(silentInIpsec),
    classDown: async (port) => void down.push(port),
  };
}

export interface FakeEncryption extends EncryptionAdapters {
  readonly wireguard: FakeWireguard;
  readonly ipsecKernel: FakeIpsec;
  readonly underlay: FakeUnderlay;
  /** As `FakeHost.unreachable`, through IPsec. */
  readonly silentInIpsec: Set<string>;
  /** Ports whose devices were set down. */
  readonly down: number[];
}

/** A machine whose interfaces a test changes. */
export class FakeLinks implements HostLinks {
  now: UnderlayFacts | undefined = { underlayMtuBytes: 1500, ownSubnets: [] };
  timesFull: number | undefined;
  #listener: () => void = () => {};

  read(): Promise<UnderlayFacts | undefined> {
    return Promise.resolve(this.now);
  }

  onChange(listener: () => void): void {
    this.#listener = listener;
  }

  timesTableWasFull(): number | undefined {
    return this.timesFull;
  }

  change(now: UnderlayFacts | undefined): void {
    this.now = now;
    this.#listener();
  }

  close(): void {
    this.#listener = () => {};
  }
}

/** A whole agent on fakes, with the real plugin server on a real socket. */
/** With its parts at hand. */
export type FakeHostAgent = Agent & AgentParts;

export interface FakeHost {
  readonly agent: FakeHostAgent;
  readonly control: MemoryControl;
  readonly kernel: FakeKernel;
  readonly names: FakeNameServer;
  readonly balancing: FakeBalancing;
  readonly encryption: FakeEncryption;
  /** Addresses in the proof network (198.18.0.k of host k) that do not answer this host. */
  readonly unreachable: Set<string>;
  readonly links: FakeLinks;
  readonly plugin: PluginServer;
  readonly socket: string;
  readonly store: FillableStore;
  call(name: string, body?: unknown): Promise<Answer>;
  /** SHA-256 over all that this host and the controller hold: disk, tables, bindings, kernel. */
  tables(): Promise<string>;
  /** What follows a change by itself has come: the controller's newest state, the kernel's passes. */
  quiet(): Promise<void>;
  /** The agent started again, on the same disk and kernel. The caller stops it. */
  restarted(): Promise<{ next: FakeHostAgent; names: FakeNameServer }>;
  /** The agent after the machine's next start: the same disk, nothing in the kernel. The caller stops it. */
  rebooted(): Promise<FakeHostAgent>;
  /** The agent started again with nothing on disk but its membership, beside a slow kernel. */
  diskLost(): Promise<{ next: FakeHostAgent; applied: Step[] }>;
}

export interface FakeCluster {
  readonly hosts: readonly FakeHost[];
  readonly controller: Controller;
  stop(): Promise<void>;
}

/** Hosts h1, h2, … of one cluster in this process; the controller is h1's. Sockets are in `directory`. */
export async function fakeCluster(count: number, directory: string): Promise<FakeCluster> {
  const random = seededRandom(7);
  const root = identityFromSeed(random.bytes(32));
  const peer = identityFromSeed(random.bytes(32));
  const identities = Array.from({ length: count }, () => identityFromSeed(random.bytes(32)));
  const [first] = identities;
  if (first === undefined) throw new Error("a cluster has a host");
  const address = (k: number): Ip => Ip.parse(`198.51.100.${k}`);
  let record = newCluster(
    { controllerPeer: peer.node, controllerNode: first.node, address: address(1) },
    { wallMs: 0, random },
  );
  for (const [i, { node, seed }] of identities.entries())
    record = admitNode(
      record,
      node,
      { ...factsOf(i + 1), sealKey: sealKey(seed) },
      undefined,
      0,
    ).record;
  const store = new ControllerStore();
  await storeRecord(store, record);
  const certificate = await signCertificate(root, {
    cluster: record.state.cluster,
    controller: peer.node,
  });
  const keys = { controller: peer, certificate, rootKey: root.publicKey };
  const modules = { store, clock: systemClock, random, hasher: sha256, log: silentLog };
  const controller = new Controller(keys, modules);
  const state = await controller.signedState();
  const net = new Map<NodeId, MemoryMesh>();
  const underlay = new FakeUnderlay();
  const hosts = await Promise.all(
    identities.map(async (identity, i) => {
      const member = record.state.nodes.find(({ id }) => id === identity.node);
      if (member === undefined) throw new Error("every host is admitted");
      const { cluster, revision } = record.state;
      const membership: Membership = {
        format: 1,
        cluster,
        rootKey: toBase64Url(root.publicKey),
        claim: await signClaim(peer, certificate, { cluster, revision, node: member }),
        state,
      };
      const control = new MemoryControl(identity.node, controller, peer.node);
      return fakeHost(identity, membership, {
        control,
        controllerStore: store,
        mesh: new MemoryMesh(identity.node, net),
        net,
        encryption: encryptionOf(address(i + 1), underlay),
        socket: join(directory, `h${i + 1}.sock`),
      });
    }),
  );
  return {
    hosts,
    controller,
    stop: async () => {
      for (const { plugin, agent } of hosts) {
        await plugin.stop();
        await agent.stop();
      }
    },
  };
}

interface FakeHostModules {
  readonly control: MemoryControl;
  readonly controllerStore: ControllerStore;
  readonly mesh: MemoryMesh;
  readonly net: Map<NodeId, MemoryMesh>;
  readonly encryption: FakeEncryption;
  readonly socket: string;
}

async function fakeHost(
  identity: Identity,
  membership: Membership,
  { control, controllerStore, mesh, net, encryption, socket }: FakeHostModules,
): Promise<FakeHost> {
  const kernel = new FakeKernel();
  const store = new FillableStore();
  const engine = undefined;
  const hostSubnets = (): [] => [];
  const links = new FakeLinks();
  const names = new FakeNameServer();
  const balancing = new FakeBalancing();
  const unreachable = new Set<string>();
  const proof = proofUnless(unreachable);
  const cutOffs = { read: (): [] => [], write: (): void => {} };
  const rest = {
    control,
    guards,
    wayOut,
    egress,
    transitPools: transitPools(DEFAULT_TRANSIT_POOL),
    proof,
    encryption,
    names,
    balancing,
    store,
    engine,
    hostSubnets,
    links,
    cutOffs,
  };
  const adapters = { ...rest, mesh, kernel, bootId: "first" };
  const made = (all: AgentAdapters): FakeHostAgent => {
    const agent = new Agent(identity, membership, all, silentLog);
    return Object.assign(agent, agent.parts);
  };
  const agent = made(adapters);
  await agent.start();
  const plugin = new PluginServer(socket, {
    network: delegateNetwork(always(async () => agent.driver)),
    ipam: delegateIpam(always(async () => agent.ipam)),
    log: silentLog,
  });
  await plugin.start();
  const tables = async (): Promise<string> => {
    const { bindings, replication, localNetworks } = agent;
    const networks = await kernel.list();
    const hash = createHash("sha256");
    for (const { key, value } of store.list(""))
      hash.update(`${key} ${value.length} `).update(value);
    return hash
      .update(JSON.stringify([...bindings.networks()]))
      .update(JSON.stringify(localNetworks.hosted().map((id) => [id, localNetworks.endpoints(id)])))
      .update(JSON.stringify(replication.tables.state))
      .update(JSON.stringify(networks.map((id) => kernel.readNow(id))))
      .update(String((await controllerStore.head())?.mark))
      .digest("hex");
  };
  const quiet = async (): Promise<void> => {
    let before = "";
    for (let now = await tables(); now !== before; now = await tables()) {
      before = now;
      const newest = (await storedRecord(controllerStore)).state.revision;
      while (agent.replication.tables.state?.revision !== newest) await delay(1);
      for (const network of agent.localNetworks.hosted()) await agent.reconciler.settle(network);
      // What an engine would be asked after its calls: it has no containers.
      agent.localNetworks.refer(new Set());
      for (const network of agent.networkRemoval.undecided())
        await agent.networkRemoval.decide(network);
    }
  };
  const restarted = async (): Promise<{ next: FakeHostAgent; names: FakeNameServer }> => {
    await plugin.stop();
    await agent.stop();
    const fresh = {
      mesh: new MemoryMesh(identity.node, net),
      names: new FakeNameServer(),
      balancing: new FakeBalancing(),
    };
    const next = made({ ...rest, ...fresh, kernel, bootId: "first" });
    await next.start();
    return { next, names: fresh.names };
  };
  const rebooted = async (): Promise<FakeHostAgent> => {
    await agent.stop();
    const fresh = { mesh: new MemoryMesh(identity.node, net), kernel: new FakeKernel() };
    const next = made({ ...rest, ...fresh, bootId: "second" });
    await next.start();
    return next;
  };
  const diskLost = async (): Promise<{ next: FakeHostAgent; applied: Step[] }> => {
    await agent.stop();
    const applied: Step[] = [];
    const slow: Kernel = {
      list: () => kernel.list(),
      read: async (network) => {
        await delay(50);
        return kernel.read(network);
      },
      apply: async (network, steps) => {
        applied.push(...steps);
        await kernel.apply(network, steps);
      },
      containerLink: (endpoint) => kernel.containerLink(endpoint),
      endsHere: () => kernel.endsHere(),
      giveBackEnd: (endpoint) => kernel.giveBackEnd(endpoint),
      onChange: (listener) => kernel.onChange(listener),
      recheck: () => kernel.recheck(),
      close: () => kernel.close(),
    };
    const fresh = { mesh: new MemoryMesh(identity.node, net), store: new MemoryStore() };
    const all = { ...rest, ...fresh, kernel: slow, bootId: "first" };
    const next = made(all);
    await next.start();
    return { next, applied };
  };
  const call = (name: string, body?: unknown): Promise<Answer> => callPlugin(socket, name, body);
  return {
    agent,
    control,
    kernel,
    names,
    balancing,
    encryption,
    unreachable,
    links,
    plugin,
    socket,
    store,
    call,
    tables,
    quiet,
    restarted,
    rebooted,
    diskLost,
  };
}

function factsOf(k: number) {
  const address = Ip.parse(`198.51.100.${k}`);
  return { name: `h${k}`, address, vtep: address, underlayMtuBytes: 1500, ownSubnets: [] };
}

function sealKey(seed: Uint8Array): string {
  return toBase64Url(sealKeyPair(sha256, seed).publicKey);
}
