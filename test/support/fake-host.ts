import { createHash, randomBytes } from "node:crypto";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { EncryptionAdapters } from "../../agent/adapters.ts";
import { Agent } from "../../agent/agent.ts";
import { delegateIpam, delegateNetwork } from "../../agent/docker/delegate.ts";
import { PluginServer } from "../../agent/docker/plugin-server.ts";
import { FakeNameServer } from "../../agent/dns/fake-name-server.ts";
import { FakeWireguard, FakeUnderlay } from "../../agent/encryption/fake-wireguard.ts";
import { FakeIpsec } from "../../agent/encryption/ipsec/fake-ipsec.ts";
import { Secret } from "../../agent/encryption/secret.ts";
import { MemoryMesh } from "../../agent/gossip/memory-mesh.ts";
import { FakeKernel } from "../../agent/kernel/fake-kernel.ts";
import type { Step } from "../../agent/core/data-plane.ts";
import type { DataPathProof, Guards, Kernel } from "../../agent/kernel/port.ts";
import type { Membership } from "../../agent/membership.ts";
import { MemoryStore } from "../../agent/store/memory-store.ts";
import { Controller } from "../../controller/controller.ts";
import { decodeRecord, encodeRecord } from "../../controller/encoded-record.ts";
import { admitNode } from "../../controller/core/admission.ts";
import { newCluster } from "../../controller/core/record.ts";
import { MemoryStore as ControllerStore } from "../../controller/store/memory-store.ts";
import { toBase64Url } from "../../shared/base64url.ts";
import type { NodeId } from "../../shared/ids.ts";
import { Ip } from "../../shared/ip.ts";
import { type Identity, identityFromSeed } from "../../shared/node/identity.ts";
import { sha256, systemClock } from "../../shared/node/system.ts";
import { silentLog } from "../../shared/ports.ts";
import { sealKeyPair } from "../../shared/sealed-box.ts";
import { signCertificate, signClaim } from "../../shared/trust.ts";
import { FillableStore } from "./fillable-store.ts";
import { MemoryControl } from "./memory-control.ts";
import { type Answer, callPlugin } from "./plugin-client.ts";
import { seededRandom } from "./seeded-random.ts";

const guards: Guards = {
  set: async () => {},
  verify: async () => true,
  counters: async () => ({}),
  onTamper: () => {},
  remove: async () => {},
  close: async () => {},
};

function proofUnless(unreachable: ReadonlySet<string>): DataPathProof {
  return {
    set: async () => {},
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
  const key = new Secret(randomBytes(32));
  const wireguard = new FakeWireguard(underlay, address, () => Date.now());
  const down: number[] = [];
  return {
    wireguard,
    ipsecKernel: ipsec,
    down,
    underlay,
    wireguardKey: () => key,
    transportGuards: () => guards,
    ipsec: () => ipsec,
    classDown: async (port) => void down.push(port),
  };
}

export interface FakeEncryption extends EncryptionAdapters {
  readonly wireguard: FakeWireguard;
  readonly ipsecKernel: FakeIpsec;
  readonly underlay: FakeUnderlay;
  /** Ports whose devices were set down. */
  readonly down: number[];
}

/** A whole agent on fakes, with the real plugin server on a real socket. */
export interface FakeHost {
  readonly agent: Agent;
  readonly control: MemoryControl;
  readonly kernel: FakeKernel;
  readonly names: FakeNameServer;
  readonly encryption: FakeEncryption;
  /** Addresses in the proof network (198.18.0.k of host k) that do not answer this host. */
  readonly unreachable: Set<string>;
  readonly plugin: PluginServer;
  readonly socket: string;
  readonly store: FillableStore;
  call(name: string, body?: unknown): Promise<Answer>;
  /** SHA-256 over all that this host and the controller hold: disk, tables, bindings, kernel. */
  tables(): Promise<string>;
  /** What follows a change by itself has come: the controller's newest state, the kernel's passes. */
  quiet(): Promise<void>;
  /** The agent started again, on the same disk and kernel. The caller stops it. */
  restarted(): Promise<{ next: Agent; names: FakeNameServer }>;
  /** The agent after the machine's next start: the same disk, nothing in the kernel. The caller stops it. */
  rebooted(): Promise<Agent>;
  /** The agent started again with nothing on disk but its membership, beside a slow kernel. */
  diskLost(): Promise<{ next: Agent; applied: Step[] }>;
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
  await store.write(0, encodeRecord(record));
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
  const names = new FakeNameServer();
  const unreachable = new Set<string>();
  const proof = proofUnless(unreachable);
  const rest = { control, guards, proof, encryption, names, store, engine, hostSubnets };
  const adapters = { ...rest, mesh, kernel, bootId: "first" };
  const agent = new Agent(identity, membership, adapters, silentLog);
  await agent.start();
  const plugin = new PluginServer(socket, {
    network: delegateNetwork(async () => agent.driver),
    ipam: delegateIpam(async () => agent.ipam),
    log: silentLog,
  });
  await plugin.start();
  const tables = async (): Promise<string> => {
    const { bindings, replication, hosting } = agent;
    const networks = await kernel.list();
    const hash = createHash("sha256");
    for (const { key, value } of store.list(""))
      hash.update(`${key} ${value.length} `).update(value);
    return hash
      .update(JSON.stringify([...bindings.networks()]))
      .update(JSON.stringify(hosting.hosted().map((id) => [id, hosting.endpoints(id)])))
      .update(JSON.stringify(replication.tables.state))
      .update(JSON.stringify(networks.map((id) => kernel.readNow(id))))
      .update((await controllerStore.read())?.bytes ?? "")
      .digest("hex");
  };
  const quiet = async (): Promise<void> => {
    let before = "";
    for (let now = await tables(); now !== before; now = await tables()) {
      before = now;
      const stored = (await controllerStore.read())?.bytes;
      const newest = stored && decodeRecord(stored).state.revision;
      while (agent.replication.tables.state?.revision !== newest) await delay(1);
      for (const network of agent.hosting.hosted()) await agent.reconciler.settle(network);
      // What an engine would be asked after its calls: it has no containers.
      agent.hosting.refer(new Set());
      for (const network of agent.ending.undecided()) await agent.ending.decide(network);
    }
  };
  const restarted = async (): Promise<{ next: Agent; names: FakeNameServer }> => {
    await plugin.stop();
    await agent.stop();
    const fresh = { mesh: new MemoryMesh(identity.node, net), names: new FakeNameServer() };
    const next = new Agent(
      identity,
      membership,
      { ...rest, ...fresh, kernel, bootId: "first" },
      silentLog,
    );
    await next.start();
    return { next, names: fresh.names };
  };
  const rebooted = async (): Promise<Agent> => {
    await agent.stop();
    const fresh = { mesh: new MemoryMesh(identity.node, net), kernel: new FakeKernel() };
    const next = new Agent(
      identity,
      membership,
      { ...rest, ...fresh, bootId: "second" },
      silentLog,
    );
    await next.start();
    return next;
  };
  const diskLost = async (): Promise<{ next: Agent; applied: Step[] }> => {
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
      onChange: (listener) => kernel.onChange(listener),
      recheck: () => kernel.recheck(),
      close: () => kernel.close(),
    };
    const fresh = { mesh: new MemoryMesh(identity.node, net), store: new MemoryStore() };
    const all = { ...rest, ...fresh, kernel: slow, bootId: "first" };
    const next = new Agent(identity, membership, all, silentLog);
    await next.start();
    return { next, applied };
  };
  const call = (name: string, body?: unknown): Promise<Answer> => callPlugin(socket, name, body);
  return {
    agent,
    control,
    kernel,
    names,
    encryption,
    unreachable,
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
