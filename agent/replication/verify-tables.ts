import type { NetworkId, NodeId } from "../../shared/ids.ts";
import type { Hasher, Verifier } from "../../shared/ports.ts";
import type { ClusterReplica } from "../core/tables/cluster-replica.ts";
import type { Tables } from "../core/tables/tables.ts";
import { saysOn } from "../core/tables/hosts.ts";
import { documentHolds, hostHolds } from "../core/tables/verify.ts";
import type { SavedTables } from "./saved-tables.ts";

const NOT_SIGNED =
  "is not what it signed; the agent's start reads and asks anew: `systemctl restart overlay-ts-agent`";
const NOT_ON_DISK = "was on disk otherwise than in memory, or not at all; it is written again";
const UNSAID =
  "this host has endpoints on it and does not say that it is on it: others have no path to them; restart the agent";
const OTHERWISE = "holds something else of it, and comparing does not mend that: verify there too";

export interface CheckedTables {
  readonly self: NodeId;
  readonly tables: Tables;
  readonly signed: ReturnType<ClusterReplica["signed"]>;
  readonly saved: Pick<
    SavedTables,
    | "hasState"
    | "hasChange"
    | "hasHost"
    | "hasDocument"
    | "saveState"
    | "saveChange"
    | "saveHost"
    | "saveDocument"
  >;
  readonly hasher: Hasher;
  readonly verifier: Verifier;
  /** Peers with which no comparison of the network ends in agreement. */
  readonly differing: (network: NetworkId) => readonly NodeId[];
}

export interface TableFault {
  readonly network?: NetworkId;
  readonly text: string;
}

/**
 * What of the tables is not as its owners signed it, as the disk has it, or as peers have it, and what of our own
 * contradicts itself. Nothing else
 * ever looks at the disk again, so what is not there is written with the same look.
 */
export function checkTables(checked: CheckedTables): TableFault[] {
  const { self, tables, signed, saved, hasher, verifier, differing } = checked;
  const names = new Map(tables.state?.nodes.map(({ id, name }) => [id, name]));
  const nameOf = (node: NodeId): string => names.get(node) ?? node;
  const faults: TableFault[] = [];
  if (!savedAgain(signed, saved)) faults.push({ text: `the controller's state ${NOT_ON_DISK}` });
  for (const document of tables.hosts.values()) {
    const what = `what ${nameOf(document.node)} says of itself`;
    if (!hostHolds(document, verifier)) faults.push({ text: `${what} ${NOT_SIGNED}` });
    else if (!saved.hasHost(document)) {
      saved.saveHost(document);
      faults.push({ text: `${what} ${NOT_ON_DISK}` });
    }
  }
  for (const { id: network } of tables.state?.networks ?? []) {
    for (const document of tables.documents(network).values()) {
      const what = `what ${nameOf(document.node)} says of its containers`;
      if (!documentHolds(document, hasher, verifier))
        faults.push({ network, text: `${what} ${NOT_SIGNED}` });
      else if (!saved.hasDocument(document)) {
        saved.saveDocument(document);
        faults.push({ network, text: `${what} ${NOT_ON_DISK}` });
      }
    }
    const own = tables.documents(network).get(self)?.endpoints ?? [];
    if (own.length > 0 && saysOn(tables.hosts, self, network) !== true)
      faults.push({ network, text: UNSAID });
    for (const peer of differing(network))
      faults.push({ network, text: `${nameOf(peer)} ${OTHERWISE}` });
  }
  return faults;
}

/** False: it was not there as it should be, and is now. */
function savedAgain(
  { state, changes }: CheckedTables["signed"],
  saved: CheckedTables["saved"],
): boolean {
  if (state === undefined) return true;
  const isThere =
    saved.hasState(state) &&
    changes.every(({ head, signed }) => saved.hasChange(head.revision, signed));
  if (isThere) return true;
  saved.saveState(state);
  for (const { head, signed } of changes) saved.saveChange(head.revision, signed);
  return false;
}
