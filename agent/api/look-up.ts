import type { NetworkRecord, NodeRecord } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import { oneLine } from "../../shared/text.ts";
import type { AgentParts } from "../agent.ts";

/** What people call a network, by name or id. @throws NOT_FOUND */
export function findNetwork(agent: AgentParts, name: string): NetworkRecord {
  const found = lookUp(agent, name);
  if (found !== undefined) return found;
  throw new OverlayError({
    code: "NOT_FOUND",
    message: `the cluster has no network ${oneLine(name, 64)}`,
    next: "see `overlay-ts network ls`",
  });
}

/** A host by name or id. @throws NOT_FOUND */
export function findNode(agent: AgentParts, name: string): NodeRecord {
  const nodes = agent.replication.tables.state?.nodes;
  const found = nodes?.find((node) => node.name === name || node.id === name);
  if (found !== undefined) return found;
  throw new OverlayError({
    code: "NOT_FOUND",
    message: `the cluster has no host ${oneLine(name, 64)}`,
    next: "see `overlay-ts node ls`",
  });
}

export function lookUp(agent: AgentParts, name: string): NetworkRecord | undefined {
  const networks = agent.replication.tables.state?.networks;
  return networks?.find((network) => network.name === name || network.id === name);
}

/** The id of one that the cluster has no more. */
export function nodeName(agent: AgentParts, node: string): string {
  return agent.replication.tables.state?.nodes.find(({ id }) => id === node)?.name ?? node;
}

/** In the order of the names, not of what was heard first. */
export function nodeNames(agent: AgentParts, nodes: readonly string[]): string[] {
  return nodes.map((node) => nodeName(agent, node)).toSorted();
}
