import type { NodeRecord } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import { checkDistinct, checkFamily, type NodeFacts } from "./admission.ts";
import { vacated } from "./quarantine.ts";
import { admittedNode, type ControllerRecord, type Transition, withState } from "./record.ts";

/** What changes with a host's address; the rest of its record stays. */
export type AddressFacts = Pick<
  NodeFacts,
  "address" | "vtep" | "behindNat" | "underlayMtuBytes" | "ownSubnets"
>;

/** In one quarantine. A host of IPv6 has addresses without end, and the record is to stay writable. */
const MOST_FORMER_ADDRESSES = 8;

/**
 * A member is at another address: same identity, index and blocks. The one before is nobody else's until
 * `untilMs` (wall clock), because who has not heard yet sends there. On the controller's host the controller
 * moves with it. Asked twice it is so once. @throws UNAUTHENTICATED, INVALID, CONFLICT; FULL: it moved too often
 */
export function readdressNode(
  record: ControllerRecord,
  node: NodeId,
  facts: AddressFacts,
  untilMs: number,
): Transition<NodeRecord> {
  const { state } = record;
  const held = admittedNode(record, node);
  const { behindNat, ...rest } = held;
  checkFamily(state.settings, facts);
  checkDistinct(record, node, { ...facts, name: held.name });
  const moved: NodeRecord = { ...rest, ...facts };
  if (moved.address === held.address && moved.behindNat === behindNat)
    return { record, result: held };
  const nodes = state.nodes.map((other) => (other.id === node ? moved : other));
  const { controller } = state;
  const next = withState(record, {
    nodes,
    ...(controller.node === node
      ? { controller: { ...controller, address: moved.behindNat ?? moved.address } }
      : {}),
  });
  if (held.address === moved.address) return { record: next, result: moved };
  const left = vacated(next, node, held.address, untilMs);
  const own = left.formerAddresses?.filter((former) => former.node === node) ?? [];
  if (own.length > MOST_FORMER_ADDRESSES) throw movedTooOften(held.name);
  return { record: left, result: moved };
}

function movedTooOften(name: string): OverlayError {
  return new OverlayError({
    code: "FULL",
    message: `host ${name} has left ${MOST_FORMER_ADDRESSES} addresses a moment ago, the most it can`,
    next: "wait ten minutes, or give one of those with --advertise-addr",
  });
}

/**
 * The address that a host says it has now is where its request came from, or anybody with a member's key
 * could have others send to somewhere else. @throws FORBIDDEN
 */
export function checkOrigin(asked: Ip, origin: Ip | undefined): void {
  if (asked === origin) return;
  throw new OverlayError({
    code: "FORBIDDEN",
    message: `the request came from ${origin ?? "an unknown address"}, not from ${asked}`,
    next: "give the address from which this host reaches the controller (`ip route get`) with --advertise-addr",
  });
}
