import type { NodeRecord } from "../../shared/cluster-state.ts";
import type { NodeId } from "../../shared/ids.ts";
import { sameUnderlay, type UnderlayFacts } from "../../shared/underlay.ts";
import { admittedNode, type ControllerRecord, type Transition, withState } from "./record.ts";

/**
 * A member's interface carries another MTU, or the member reaches other subnets by itself: new networks heed it,
 * those that are there keep what they have. Asked twice it is so once. @throws UNAUTHENTICATED
 */
export function changeUnderlay(
  record: ControllerRecord,
  node: NodeId,
  { underlayMtuBytes, ownSubnets }: UnderlayFacts,
): Transition<NodeRecord> {
  const held = admittedNode(record, node);
  if (sameUnderlay(held, { underlayMtuBytes, ownSubnets })) return { record, result: held };
  const changed: NodeRecord = { ...held, underlayMtuBytes, ownSubnets };
  const nodes = record.state.nodes.map((other) => (other.id === node ? changed : other));
  return { record: withState(record, { nodes }), result: changed };
}
