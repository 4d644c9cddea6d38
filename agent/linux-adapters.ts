import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Cidr, Ip } from "../shared/ip.ts";
import { hasAddress } from "../shared/node/own-address.ts";
import { systemClock } from "../shared/node/system.ts";
import type { Log } from "../shared/ports.ts";
import type { AgentAdapters } from "./adapters.ts";
import { LinuxBalancing } from "./balancing/linux-balancing.ts";
import { CutOffFile } from "./docker/cut-off.ts";
import { EngineClient } from "./docker/engine/client.ts";
import type { PluginSocket } from "./docker/plugin/plugin-socket.ts";
import type { NameServer } from "./names/server/port.ts";
import { setClassDown } from "./encryption/ipsec/class-devices.ts";
import { LinuxIpsec } from "./encryption/ipsec/linux-ipsec.ts";
import { LinuxWireguard } from "./encryption/wireguard/linux-wireguard.ts";
import type { Secret } from "./encryption/secret.ts";
import { hostWireguardKey, keepWireguardKey } from "./encryption/wireguard/keys.ts";
import { Libp2pMesh } from "./replication/gossip/libp2p-mesh.ts";
import { LinuxDataPathProof } from "./kernel/proof/data-path-proof.ts";
import { transitPools } from "./core/data-plane/transit.ts";
import { LinuxEgress } from "./kernel/egress/linux-egress.ts";
import { LinuxKernel } from "./kernel/linux-kernel.ts";
import { transportNetns } from "./kernel/netns.ts";
import { NftGuards } from "./kernel/nft/nft-guards.ts";
import { LinuxHostLinks } from "./membership/linux-host-links.ts";
import { listenAddress, type Member } from "./membership/member.ts";
import { WayOutPorts } from "./kernel/way-out-ports.ts";
import { agentFiles } from "./membership/membership-files.ts";
import { hostSubnets } from "./membership/host-facts.ts";
import type { Loss } from "./store/loss.ts";
import { openStore } from "./store/open-store.ts";

export interface LinuxPlaces {
  readonly dataDirectory: string;
  readonly runDirectory: string;
  /** Undefined: a host without an engine. */
  readonly engineSocket: string | undefined;
  readonly pluginSocket: PluginSocket | undefined;
  readonly patienceMs: number | undefined;
  /** Of networks' ways out; undefined: they have none. */
  readonly transitPool: Cidr | undefined;
}

/**
 * This machine, as a member's agent works on it. `lost` collects what the disk does not have any more, over
 * all agents of the process. @throws STORE for a database of a newer version.
 */
export function linuxAdapters(
  places: LinuxPlaces,
  { membership, identity, node, settings, rootKey }: Member,
  names: NameServer,
  lost: Loss[],
  log: Log,
): AgentAdapters {
  const { runDirectory, dataDirectory, engineSocket, pluginSocket } = places;
  const { patienceMs, transitPool } = places;
  const files = agentFiles(dataDirectory);
  const netnsDirectory = join(runDirectory, "netns");
  const opening = { scratch: runDirectory, wallMs: systemClock.wallMs() };
  const { store, losses } = openStore(files.database, opening);
  for (const loss of losses) log.error({ ...loss }, "lost from disk");
  lost.push(...losses);
  const mesh = new Libp2pMesh(
    {
      identitySeed: identity.seed,
      listen: { address: listenAddress(node), port: settings.ports.gossip },
      claim: membership.claim,
      rootKey,
    },
    log,
  );
  return {
    mesh,
    control: mesh.control,
    store,
    losses: lost,
    kernel: new LinuxKernel({ netnsDirectory }),
    guards: new NftGuards({}),
    wayOut: new WayOutPorts({}),
    egress: new LinuxEgress({}),
    transitPools: transitPool && transitPools(transitPool),
    names,
    balancing: new LinuxBalancing({ log }),
    engine: engineSocket === undefined ? undefined : new EngineClient(engineSocket),
    pluginSocket,
    cutOffs: new CutOffFile(files.cutOff),
    patienceMs,
    hostSubnets,
    links: new LinuxHostLinks(),
    ownAddress: { local: listenAddress(node), has: hasAddress },
    bootId: readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
    proof: new LinuxDataPathProof({ netnsDirectory }),
    encryption: {
      wireguard: new LinuxWireguard({ netnsDirectory }),
      wireguardKey: () => hostWireguardKey(files.wireguardKey),
      keepWireguardKey: (key: Secret) => keepWireguardKey(files.wireguardKey, key),
      transportGuards: () => new NftGuards({ hostNetns: transportNetns(netnsDirectory) }),
      ipsec: (local: Ip, udpPort: number) => new LinuxIpsec({ local, udpPort }),
      ipsecProof: new LinuxDataPathProof({ netnsDirectory, of: "ipsec" }),
      classDown: (udpPort: number) => setClassDown(netnsDirectory, udpPort),
    },
  };
}
