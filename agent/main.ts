import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fromBase64Url } from "../shared/base64url.ts";
import { asFailure } from "../shared/errors.ts";
import { UnixHttpServer } from "../shared/node/unix-http.ts";
import type { Log } from "../shared/ports.ts";
import { verifyClaim, verifyState } from "../shared/trust.ts";
import { Agent } from "./agent.ts";
import { EngineClient } from "./docker/engine-client.ts";
import { PluginServer } from "./docker/plugin-server.ts";
import { Libp2pMesh } from "./gossip/libp2p-mesh.ts";
import { LinuxDataPathProof } from "./kernel/data-path-proof.ts";
import { LinuxKernel } from "./kernel/linux-kernel.ts";
import { NftGuards } from "./kernel/nft-guards.ts";
import { localRoutes } from "./local-api.ts";
import { agentFiles, ensureIdentity, type Membership, readMembership } from "./membership.ts";
import { SqliteStore } from "./store/sqlite-store.ts";

export interface AgentConfig {
  readonly dataDirectory: string;
  readonly runDirectory: string;
  /** Undefined: a host without an engine. */
  readonly docker: { readonly engineSocket: string; readonly pluginSocket: string } | undefined;
}

const WAIT_MS = 100;

/** This host's agent until `signal` aborts: first without a cluster, from `join` or `init` on with it. */
export async function runAgent(config: AgentConfig, log: Log, signal: AbortSignal): Promise<void> {
  const files = agentFiles(config.dataDirectory);
  mkdirSync(files.directory, { recursive: true, mode: 0o700 });
  let agent: Agent | undefined;
  let plugin: PluginServer | undefined;
  const local = new UnixHttpServer(join(config.runDirectory, "agent.sock"), {
    ...localRoutes(() => agent),
  });
  await local.start();
  try {
    if (readMembership(files) === undefined)
      log.info({}, "not in a cluster yet: waiting for `overlay-ts init` or `join`");
    let membership: Membership | undefined;
    while ((membership = readMembership(files)) === undefined && !signal.aborted)
      await delay(WAIT_MS);
    if (membership === undefined) return;
    agent = await makeAgent(config, membership, log);
    await agent.start();
    if (config.docker !== undefined) {
      const { driver, ipam } = agent;
      plugin = new PluginServer(config.docker.pluginSocket, { network: driver, ipam, log });
      await plugin.start();
      agent.docker?.start();
    }
    log.info({ node: agent.identity.node, cluster: membership.cluster }, "agent ready");
    if (!signal.aborted)
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  } finally {
    await plugin?.stop();
    await local.stop();
    await agent
      ?.stop()
      .catch((error: unknown) => log.warn({ ...asFailure(error) }, "not stopped in order"));
  }
}

async function makeAgent(
  { runDirectory, dataDirectory, docker }: AgentConfig,
  membership: Membership,
  log: Log,
): Promise<Agent> {
  const files = agentFiles(dataDirectory);
  const identity = await ensureIdentity(files);
  const rootKey = fromBase64Url(membership.rootKey);
  const { node } = await verifyClaim(rootKey, membership.claim);
  const { settings } = await verifyState(rootKey, membership.state);
  const netnsDirectory = join(runDirectory, "netns");
  const mesh = new Libp2pMesh(
    {
      identitySeed: identity.seed,
      listen: { address: node.address, port: settings.ports.gossip },
      claim: membership.claim,
      rootKey,
    },
    log,
  );
  const adapters = {
    mesh,
    control: mesh.control,
    store: new SqliteStore(files.database),
    kernel: new LinuxKernel({ netnsDirectory }),
    guards: new NftGuards({}),
    engine: docker && new EngineClient(docker.engineSocket),
    proof: new LinuxDataPathProof({ netnsDirectory }),
  };
  return new Agent(identity, membership, adapters, log);
}
