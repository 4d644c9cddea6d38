import { asFailure } from "../../shared/errors.ts";
import type { NetworkId } from "../../shared/ids.ts";
import type { AgentParts } from "../agent.ts";
import { leftOutText } from "../core/names/left-out.ts";
import { differences } from "../core/data-plane/differences.ts";
import { unservedSandboxes } from "./verify-names.ts";
import { unservedVips } from "./vips-status.ts";

/** One thing that is not as it should be, and where. */
export interface Finding {
  readonly what:
    | "kernel"
    | "proof"
    | "guards"
    | "way out"
    | "docker"
    | "names"
    | "virtual addresses"
    | "leftover"
    | "wireguard"
    | "ipsec"
    | "tables";
  readonly network?: NetworkId;
  /** The network's name; absent: it has none, or the cluster does not know it. */
  readonly name?: string;
  readonly text: string;
}

/** Compares kernel, Docker and tables; empty when they agree. */
export async function verify(agent: AgentParts): Promise<Finding[]> {
  const findings = [
    ...agent.encryption
      .failures()
      .map(({ encryption, failure }): Finding => ({ what: encryption, text: failure.message })),
    ...(await inKernel(agent)),
    ...(await inTransport(agent)),
    ...(await inProof(agent)),
    ...(await inGuards(agent)),
    ...(await inWayOut(agent)),
    ...(await inContainers(agent)),
    ...(await inDocker(agent)),
    ...(await inNames(agent)),
    ...(await inClients(agent)),
    ...agent.replication.faults().map((fault): Finding => ({ what: "tables", ...fault })),
  ];
  return findings.map((finding) => {
    const name = finding.network && agent.localNetworks.find(finding.network)?.name;
    return name === undefined ? finding : { ...finding, name };
  });
}

async function inKernel(agent: AgentParts): Promise<Finding[]> {
  const { kernel } = agent.adapters;
  const findings: Finding[] = [];
  const hosted = new Set(agent.localNetworks.hosted());
  // Read anew: verify must not trust what was cached since the last look.
  kernel.recheck();
  for (const network of new Set([...hosted, ...(await kernel.list())])) {
    const record = agent.localNetworks.find(network);
    // Its class cannot be used now, which the class reports: what is wanted is not known.
    if (record !== undefined && agent.encryption.paths(record.encryption) === undefined) {
      if (hosted.has(network))
        findings.push({ what: "kernel", network, text: `waits for ${record.encryption}` });
      continue;
    }
    const what = hosted.has(network) ? "kernel" : "leftover";
    const texts = await kernel
      .read(network)
      .then((actual) => differences(actual, agent.desiredNetworks.want(network)), unread);
    findings.push(...texts.map((text) => ({ what, network, text }) as const));
  }
  return findings;
}

/**
 * WireGuard's device and the namespace it is in, which would say nothing without a path through it, and IPsec's
 * policies.
 */
async function inTransport({ encryption }: AgentParts): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const what of ["wireguard", "ipsec"] as const) {
    const texts = await encryption[what].faults().catch(unread);
    findings.push(...texts.map((text) => ({ what, text })));
  }
  return findings;
}

async function inProof({ dataPaths }: AgentParts): Promise<Finding[]> {
  const texts = await dataPaths.faults().catch(unread);
  return texts.map((text) => ({ what: "proof", text }));
}

function unread(error: unknown): string[] {
  return [`cannot be read: ${asFailure(error).message}`];
}

async function inGuards({ adapters, encryption }: AgentParts): Promise<Finding[]> {
  const inTransport = encryption.wireguard.guards();
  const findings: Finding[] = [];
  for (const [each, where] of [
    [adapters.guards, "the nftables table"],
    [inTransport?.guards, "the nftables table of WireGuard's namespace"],
  ] as const)
    if (each !== undefined && !(await each.verify()))
      findings.push({ what: "guards", text: `${where} is not what was written` });
  return findings;
}

async function inWayOut({ adapters }: AgentParts): Promise<Finding[]> {
  const texts = [
    ...(await adapters.wayOut.faults().catch(unread)),
    ...(await adapters.egress.faults().catch(unread)),
  ];
  return texts.map((text) => ({ what: "way out", text }));
}

async function inContainers({ lostInterfaces }: AgentParts): Promise<Finding[]> {
  return (await lostInterfaces.differences()).map((lost) => ({ what: "kernel", ...lost }));
}

async function inDocker({ networkSync }: AgentParts): Promise<Finding[]> {
  try {
    const found = (await networkSync?.differences()) ?? [];
    return found.map((difference) => ({ what: "docker", ...difference }));
  } catch (error) {
    return [{ what: "docker", text: `cannot be asked: ${asFailure(error).message}` }];
  }
}

async function inNames({
  adapters: { names },
  nameServerFeed,
  containerWatcher,
}: AgentParts): Promise<Finding[]> {
  const mended = await names.check();
  return [
    ...mended.map((id) => `sandbox ${id} asked Docker alone for names: its rules are put back`),
    ...unservedSandboxes(nameServerFeed.wanted(), await names.sandboxes()),
    // Texts that are no DNS names differ on no host.
    ...(containerWatcher?.status().leftOutNames ?? [])
      .filter(({ why }) => why === "too-many")
      .map(leftOutText),
  ].map((text) => ({ what: "names", text }));
}

async function inClients({ adapters: { balancing }, serviceFeed }: AgentParts): Promise<Finding[]> {
  const mended = await balancing.check();
  const texts = unservedVips(serviceFeed.wanted(), balancing.clients(), mended);
  return texts.map((text) => ({ what: "virtual addresses", text }));
}
