import { type NodeRecord, type Settings } from "../../shared/cluster-state.ts";
import { BOUNDS } from "../../shared/bounds.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";
import { familyOf } from "../../shared/ip.ts";
import { withMachine } from "./machines.ts";
import { quarantined } from "./quarantine.ts";
import { type ControllerRecord, type Transition, withNumbers, withState } from "./record.ts";

/** What a host says of itself when it joins. */
export type NodeFacts = Pick<
  NodeRecord,
  "name" | "address" | "vtep" | "behindNat" | "underlayMtuBytes" | "ownSubnets" | "sealKey"
>;

/**
 * The host is in the table with these facts. Asked twice it is still there once, so a joiner that
 * did not hear the answer asks again. @throws INVALID, CONFLICT (name or address), FULL.
 */
export function admitNode(
  record: ControllerRecord,
  node: NodeId,
  facts: NodeFacts,
  allowedNetworks: readonly string[] | undefined,
  wallMs: number,
): Transition<NodeRecord> {
  const { state } = record;
  checkFamily(state.settings, facts);
  const held = state.nodes.find(({ id }) => id === node);
  if (state.revoked.includes(node))
    throw new OverlayError({
      code: "FORBIDDEN",
      message: "this host's key was revoked; it cannot be admitted again",
      next: "run `overlay-ts leave` there: the next join makes another key",
    });
  checkDistinct(record, node, facts);
  if (held === undefined && state.nodes.length >= BOUNDS.nodes)
    throw new OverlayError({
      code: "FULL",
      message: `the cluster has ${BOUNDS.nodes} hosts, the most it can have`,
      next: "remove hosts that are gone for good with `overlay-ts node rm`",
    });
  const admitted: NodeRecord = {
    ...facts,
    id: node,
    index: held?.index ?? record.nextNodeIndex,
    joinedAtMs: held?.joinedAtMs ?? wallMs,
    ...(allowedNetworks === undefined ? {} : { allowedNetworks: [...allowedNetworks] }),
  };
  const nodes = [...state.nodes.filter(({ id }) => id !== node), admitted];
  return {
    record: withNumbers(withState(record, { nodes: nodes.toSorted((a, b) => a.index - b.index) }), {
      nextNodeIndex: Math.max(record.nextNodeIndex, admitted.index + 1),
    }),
    result: admitted,
  };
}

/**
 * The host is out for good: its key never counts again, its blocks are nobody's until `untilMs` (wall
 * clock). Network keys it held are to be rotated by the caller (`rotateKeys`), so that it cannot read what comes.
 */
export function revokeNode(
  record: ControllerRecord,
  name: string,
  untilMs: number,
): Transition<NodeRecord> {
  const { state } = record;
  const node = state.nodes.find((candidate) => candidate.name === name || candidate.id === name);
  if (node === undefined)
    throw new OverlayError({
      code: "NOT_FOUND",
      message: `no host ${name} in the cluster`,
      next: "see `overlay-ts node ls`",
    });
  if (node.id === state.controller.node)
    throw new OverlayError({
      code: "FORBIDDEN",
      message: `${name} is the controller's own host`,
      next:
        state.nodes.length > 1
          ? "make another host the controller, `overlay-ts controller promote --root-key FILE` there, and remove this one there"
          : "no other host is in the cluster: `deploy/uninstall.sh --purge --force` there ends it",
    });
  const revoked = withState(record, {
    nodes: state.nodes.filter(({ id }) => id !== node.id),
    revoked: [...state.revoked, node.id],
    blocks: state.blocks.filter((block) => block.node !== node.id),
  });
  const held = state.blocks.filter((block) => block.node === node.id);
  const gone = withMachine(revoked, node.id, undefined);
  return { record: quarantined(gone, held, untilMs), result: node };
}

/** @throws INVALID */
export function checkFamily(
  { underlayFamily }: Settings,
  facts: Pick<NodeFacts, "address" | "vtep" | "behindNat">,
): void {
  const { address, vtep, behindNat = vtep } = facts;
  for (const ip of [address, vtep, behindNat])
    if (familyOf(ip) !== underlayFamily)
      throw new OverlayError({
        code: "INVALID",
        message: `${ip} is not an IPv${underlayFamily} address; the cluster's hosts talk IPv${underlayFamily}`,
        next: `give one with --advertise-addr`,
      });
}

/** No other member has its name or address, nor had the address a moment ago. @throws CONFLICT */
export function checkDistinct(
  { state, formerAddresses = [] }: ControllerRecord,
  node: NodeId,
  facts: Pick<NodeFacts, "name" | "address" | "vtep">,
): void {
  for (const other of state.nodes)
    if (other.id !== node && !state.revoked.includes(other.id)) checkOther(other, facts);
  const former = formerAddresses.find(
    (held) => held.node !== node && (held.ip === facts.address || held.ip === facts.vtep),
  );
  if (former === undefined) return;
  const name = state.nodes.find(({ id }) => id === former.node)?.name ?? former.node;
  throw new OverlayError({
    code: "CONFLICT",
    message: `${former.ip} was the address of host ${name} until a moment ago: others may still send to it`,
    next: "wait ten minutes, or give another with --advertise-addr",
  });
}

function checkOther(other: NodeRecord, facts: Pick<NodeFacts, "name" | "address" | "vtep">): void {
  if (other.name === facts.name)
    throw new OverlayError({
      code: "CONFLICT",
      message: `another host is called ${facts.name}`,
      next: "join with another --name, or remove the old one with `overlay-ts node rm`",
    });
  if (other.address === facts.address || other.vtep === facts.vtep)
    throw new OverlayError({
      code: "CONFLICT",
      message: `host ${other.name} has the address ${facts.address} already`,
      next: "give another with --advertise-addr, or remove the old host with `overlay-ts node rm`",
    });
}
