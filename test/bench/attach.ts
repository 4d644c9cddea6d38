import { PluginServer } from "../../agent/docker/plugin/server.ts";
import type { NetworkDriver } from "../../agent/docker/plugin/port.ts";
import type { IpamDriver } from "../../agent/networks/ipam-port.ts";
import { ruleMac } from "../../shared/mac.ts";
import { Ip } from "../../shared/ip.ts";
import { silentLog } from "../../shared/ports.ts";
import { IMAGE, type Lab } from "../lab/lab.ts";
import type { LabHost } from "../support/lab-host.ts";
import { median, round, timed } from "./statistics.ts";

/** Medians of whole `docker run --rm` calls, milliseconds, and ratios of what each adds to `none`. */
export interface Attach {
  readonly noneMs: number;
  /** Docker's default network: without its resolver. */
  readonly defaultBridgeMs: number;
  /** `docker network create`: as ours, with Docker's resolver. */
  readonly bridgeMs: number;
  /** A plugin that only hands out a veth: what Docker itself takes for a plugin's network. */
  readonly stubMs: number;
  readonly overlayMs: number;
  /** `--internal`: without docker_gwbridge, Docker's second interface. */
  readonly overlayInternalMs: number;
  readonly overBridge: number;
  readonly internalOverBridge: number;
  readonly overDefaultBridge: number;
  readonly overStub: number;
}

const KINDS = ["none", "default", "bridge", "stub", "overlay", "internal"] as const;
type Kind = (typeof KINDS)[number];

/** A program that does nothing, on each kind of network, interleaved. */
export async function measureAttach(lab: Lab, network: string, rounds: number): Promise<Attach> {
  const [host] = lab.hosts;
  if (host === undefined) throw new Error("no host");
  const stub = await stubPlugin(host);
  const names: Record<Kind, string> = {
    none: "none",
    default: "bridge",
    bridge: "bench-bridge",
    stub: "bench-stub",
    overlay: network,
    internal: "bench-internal",
  };
  const times: Record<Kind, number[]> = {
    none: [],
    default: [],
    bridge: [],
    stub: [],
    overlay: [],
    internal: [],
  };
  try {
    await host.docker("network", "create", names.bridge);
    await host.docker("network", "create", "-d", "bench-stub", names.stub);
    await host.docker(
      "network",
      "create",
      "-d",
      "overlay-ts",
      "--ipam-driver",
      "overlay-ts",
      "--internal",
      names.internal,
    );
    const held = ["run", "-d", "--name", "bench-held", "--network", names.internal];
    await host.docker(...held, IMAGE, "/bin/sleep", "100000");
    for (let i = 0; i < rounds; i++)
      for (const kind of KINDS)
        times[kind].push(
          await timed(() =>
            host.docker("run", "--rm", "--network", names[kind], IMAGE, "/bin/true"),
          ),
        );
  } finally {
    await host.docker("rm", "-f", "bench-held").catch(() => {});
    await host.docker("network", "rm", names.bridge, names.stub, names.internal).catch(() => {});
    await stub.stop();
  }
  const ms = (kind: Kind): number => median(times[kind]);
  const over = (kind: Kind, base: Kind): number =>
    round((ms(kind) - ms("none")) / (ms(base) - ms("none")));
  return {
    noneMs: round(ms("none"), 0),
    defaultBridgeMs: round(ms("default"), 0),
    bridgeMs: round(ms("bridge"), 0),
    stubMs: round(ms("stub"), 0),
    overlayMs: round(ms("overlay"), 0),
    overlayInternalMs: round(ms("internal"), 0),
    overBridge: over("overlay", "bridge"),
    internalOverBridge: over("internal", "bridge"),
    overDefaultBridge: over("overlay", "default"),
    overStub: over("overlay", "stub"),
  };
}

/** The floor: Docker's protocol answered at once, one veth a container, Docker's own IPAM. */
async function stubPlugin(host: LabHost): Promise<PluginServer> {
  const link = (endpoint: string): string => `stub${endpoint.slice(0, 8)}`;
  const network: NetworkDriver = {
    createNetwork: async () => {},
    deleteNetwork: async () => {},
    createEndpoint: async ({ ipv4 }) => ({ mac: ruleMac(ipv4 ?? Ip.parse("10.0.0.2")) }),
    deleteEndpoint: async () => {},
    join: async ({ endpoint }) => {
      const name = link(endpoint);
      await host.exec("ip", "link", "add", name, "type", "veth", "peer", "name", `${name}p`);
      return { link: name, prefix: "eth", internal: false, gateways: [] };
    },
    leave: async (_network, endpoint) => {
      void host.exec("ip", "link", "del", `${link(endpoint)}p`).catch(() => {});
    },
  };
  const refuse = (): Promise<never> => Promise.reject(new Error("Docker's own IPAM is used"));
  const ipam: IpamDriver = {
    requestPool: refuse,
    releasePool: refuse,
    requestAddress: refuse,
    releaseAddress: refuse,
  };
  const path = host.path("/run/docker/plugins/bench-stub.sock");
  const server = new PluginServer(path, { network, ipam, log: silentLog });
  await server.start();
  return server;
}
