import { type ClusterState, LEAST_UNDERLAY_MTU_BYTES } from "../../../shared/cluster-state.ts";
import type { Failure } from "../../../shared/errors.ts";
import type { NetworkId } from "../../../shared/ids.ts";
import { neededUnderlayBytes, tooLargeFor } from "../../../shared/mtu.ts";
import { newSubnets, type UnderlayFacts } from "../../../shared/underlay.ts";

/**
 * Full-size packets of these networks do not fit through the host's interface: connections open, and stand still.
 * @param mtuBytes of the interface now
 * @param used networks with containers here; another one is refused to containers, and disturbs nobody
 */
export function narrowUnderlay(
  state: ClusterState,
  mtuBytes: number,
  used: ReadonlySet<NetworkId>,
): Failure | undefined {
  const needs = tooLargeFor(state, mtuBytes)
    .filter(({ id }) => used.has(id))
    .map(
      (record) =>
        `${record.name ?? record.id} needs ${neededUnderlayBytes(state.settings, record)}`,
    );
  if (needs.length === 0) return undefined;
  return {
    code: "TOO_LARGE",
    message: `this host's interface has an MTU of ${mtuBytes} bytes, and large packets of networks with containers here do not fit: ${needs.join(", ")}`,
    next: "give the interface a larger MTU (`ip link`), or make the networks anew with a smaller `-o mtu=`",
  };
}

/** What the controller can be told: an MTU that no host may have is not, and what it has of the host stays. */
export function tellable(held: UnderlayFacts, now: UnderlayFacts): UnderlayFacts {
  const fits = now.underlayMtuBytes >= LEAST_UNDERLAY_MTU_BYTES;
  return fits ? now : { ...now, underlayMtuBytes: held.underlayMtuBytes };
}

/** Why the state still says `held` of this host, whose interfaces are as `now`. */
export function untold(held: UnderlayFacts, now: UnderlayFacts, why: Failure): Failure {
  const added = newSubnets(held, now);
  const gone = newSubnets(now, held);
  const changes = [
    ...(held.underlayMtuBytes === now.underlayMtuBytes
      ? []
      : [`an MTU of ${now.underlayMtuBytes}, not ${held.underlayMtuBytes}`]),
    ...(added.length === 0 ? [] : [`${listed(added)} by itself`]),
    ...(gone.length === 0 ? [] : [`${listed(gone)} no more`]),
  ];
  const said = `the cluster does not know yet that this host has ${changes.join(", and ")}`;
  // A version before does not know the question.
  if (why.code === "INVALID")
    return {
      code: "UNSUPPORTED",
      message: `${said}: the controller is of a version that takes this only from a host that joins`,
      next: "install this version on the controller's host; until then new networks heed what was",
    };
  return {
    code: why.code,
    message: `${said}: ${why.message}`,
    next: why.next ?? "it is told by itself when the controller takes it",
  };
}

const LISTED = 3;

function listed(subnets: readonly string[]): string {
  const more = subnets.length - LISTED;
  return subnets.slice(0, LISTED).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
