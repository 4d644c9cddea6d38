import { asFailure } from "../shared/errors.ts";
import type { NetworkId } from "../shared/ids.ts";
import type { Agent } from "./agent.ts";
import { differences } from "./core/differences.ts";
import { unservedSandboxes } from "./names-check.ts";

/** One thing that is not as it should be, and where. */
export interface Finding {
  readonly what:
    "kernel" | "guards" | "docker" | "names" | "leftover" | "wireguard" | "ipsec" | "tables";
  readonly network?: NetworkId;
  /** What people call the network; absent: it has no name, or the cluster does not know it. */
  readonly name?: string;
  readonly text: string;
}

/** Compares kernel, Docker and tables; empty when they agree. */
export async function verify(agent: Agent): Promise<Finding[]> {
  const findings = [
    ...agent.encrypting
      .failures()
      .map(({ encryption, failure }): Finding => ({ what: encryption, text: failure.message })),
    ...(await inKernel(agent)),
    ...(await inGuards(agent)),
    ...(await inDocker(agent)),
    ...(await inNames(agent)),
    ...agent.replication.faults().map((fault): Finding => ({ what: "tables", ...fault })),
  ];
  return findings.map((finding) => {
    const name = finding.network && agent.hosting.find(finding.network)?.name;
    return name === undefined ? finding : { ...finding, name };
  });
}

async function inKernel(agent: Agent): Promise<Finding[]> {
  const { kernel } = agent.adapters;
  const findings: Finding[] = [];
  const hosted = new Set(agent.hosting.hosted());
  // What was believed of it since the last look is what is to be found out.
  kernel.recheck();
  for (const network of new Set([...hosted, ...(await kernel.list())])) {
    const record = agent.hosting.find(network);
    // Its class does not stand, which is said by the class: nothing is known to be wanted.
    if (record !== undefined && agent.encrypting.paths(record.encryption) === undefined) {
      if (hosted.has(network))
        findings.push({ what: "kernel", network, text: `waits for ${record.encryption}` });
      continue;
    }
    const what = hosted.has(network) ? "kernel" : "leftover";
    const texts = await kernel.read(network).then(
      (actual) => differences(actual, agent.wanting.want(network).desired),
      (error: unknown) => [`cannot be read: ${asFailure(error).message}`],
    );
    findings.push(...texts.map((text) => ({ what, network, text }) as const));
  }
  return findings;
}

async function inGuards({ adapters, encrypting }: Agent): Promise<Finding[]> {
  const inTransport = encrypting.wireguard.guards();
  const findings: Finding[] = [];
  for (const [each, where] of [
    [adapters.guards, "the nftables table"],
    [inTransport?.guards, "the nftables table of WireGuard's namespace"],
  ] as const)
    if (each !== undefined && !(await each.verify()))
      findings.push({ what: "guards", text: `${where} is not what was written` });
  return findings;
}

async function inDocker({ docker }: Agent): Promise<Finding[]> {
  try {
    const found = (await docker?.differences()) ?? [];
    return found.map((difference) => ({ what: "docker", ...difference }));
  } catch (error) {
    return [{ what: "docker", text: `cannot be asked: ${asFailure(error).message}` }];
  }
}

async function inNames({ adapters: { names }, resolving }: Agent): Promise<Finding[]> {
  const mended = await names.check();
  return [
    ...mended.map((id) => `sandbox ${id} asked Docker alone for names: its rules are put back`),
    ...unservedSandboxes(resolving.wanted(), await names.sandboxes()),
  ].map((text) => ({ what: "names", text }));
}
