import type { NodeRecord } from "../../shared/cluster-state.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { MachineId, NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import type { ControllerRecord } from "./record.ts";

/**
 * A host is its key, and files are copied: with a disk, an image, a backup. So it is kept on which machine a host
 * was admitted, and asked when its key comes from another. No proof, and none is needed: who has the key is the
 * host. It is for people, who must say which of two machines is meant before one takes the other's place.
 */

/** What comes with a host's key. */
export interface Comer {
  /** Undefined: the machine has none, or the host is of version 0.1.0. */
  readonly machine?: MachineId | undefined;
  /** Said by a person: it is the same host, and runs here from now on. */
  readonly replace?: boolean | undefined;
}

/**
 * Somebody joins with this key. One that is admitted already is so once more on its own machine. Of a host that was
 * admitted without an id (by 0.1.0, or where there is none) the address tells. @throws CONFLICT
 */
export function checkJoined(
  { state, machines }: ControllerRecord,
  node: NodeId,
  { machine, replace, address }: Comer & { readonly address: Ip },
): void {
  const held = state.nodes.find(({ id }) => id === node);
  if (held === undefined || replace === true) return;
  const known = machines?.[node];
  const isSame = known === undefined ? held.address === address : known === machine;
  if (!isSame)
    throw inUse(
      held,
      "run `overlay-ts leave` here, which deletes the copied key, and join again",
      "`overlay-ts join --replace`",
    );
}

/** A member says that it is at another address: the address cannot tell. @throws CONFLICT */
export function checkMoved(
  { state, machines }: ControllerRecord,
  node: NodeId,
  { machine, replace }: Comer,
): void {
  const held = state.nodes.find(({ id }) => id === node);
  const known = machines?.[node];
  if (held === undefined || replace === true) return;
  if (known !== undefined && machine !== undefined && known !== machine)
    throw inUse(
      held,
      "stop the agent here (`systemctl stop overlay-ts-agent`), run `overlay-ts leave --force`, start it and join",
      "`overlay-ts node readdress --replace`",
    );
}

function inUse({ name }: NodeRecord, onClone: string, onSame: string): OverlayError {
  return new OverlayError({
    code: "CONFLICT",
    message: `the identity of host ${name} is in use on another machine; was this machine cloned?`,
    next: `if it was, ${onClone}; if this is ${name}, restored or with a new machine id, ${onSame}`,
  });
}

/** The machine on which the host runs from now on; undefined: not known, or no host any more. */
export function withMachine(
  record: ControllerRecord,
  node: NodeId,
  machine: MachineId | undefined,
): ControllerRecord {
  const { machines = {}, ...rest } = record;
  if (machines[node] === machine) return record;
  const { [node]: _, ...others } = machines;
  const next = machine === undefined ? others : { ...others, [node]: machine };
  return Object.keys(next).length === 0 ? rest : { ...rest, machines: next };
}

/**
 * By name, another member with the same machine id: copies of one image have it in common. No reason to refuse
 * anybody, and one to say it: of these two a copied key would not be noticed.
 */
export function sharedWith(
  { state, machines = {} }: ControllerRecord,
  node: NodeId,
): string | undefined {
  const own = machines[node];
  if (own === undefined) return undefined;
  return state.nodes.find(({ id }) => id !== node && machines[id] === own)?.name;
}
