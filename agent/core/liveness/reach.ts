import type { SecurityClass } from "../../../shared/cluster-state.ts";
import type { Failure } from "../../../shared/errors.ts";
import type { NodeId } from "../../../shared/ids.ts";

export type Tunnel = Exclude<SecurityClass, "none">;
export const TUNNELS: readonly Tunnel[] = ["wireguard", "ipsec"];

/** What questions through one class found; who was not asked through it is in neither. */
export interface Found {
  readonly lost: ReadonlySet<NodeId>;
  /** They answered the last question. */
  readonly answering: ReadonlySet<NodeId>;
  /** Nobody can be asked: a network of the class is shared, and there is no key. */
  readonly keyless: ReadonlySet<NodeId>;
}

export type FoundThrough = Readonly<Record<SecurityClass, Found>>;

/** Hosts that answer through nothing. */
export function lostHosts(found: FoundThrough): Set<NodeId> {
  const answers = (node: NodeId): boolean =>
    TUNNELS.some((tunnel) => found[tunnel].answering.has(node));
  return new Set([...found.none.lost].filter((node) => !answers(node)));
}

/**
 * Hosts whose containers are not reached on networks of a class: it is silent, has no key, or nothing says that it is
 * there where the host is silent in clear. A tunnel that is dead takes nothing from networks of the other classes.
 */
export function lostThrough(found: FoundThrough, encryption: SecurityClass): Set<NodeId> {
  const { lost, answering, keyless } = found[encryption];
  if (encryption === "none") return new Set(lost);
  const silent = [...found.none.lost].filter((node) => !answering.has(node));
  return new Set([...lost, ...keyless, ...silent]);
}

const TITLES = { wireguard: "WireGuard", ipsec: "IPsec" } as const;

/** Hosts that are there, and without a key or silent through the tunnel. `wireguardPort`: the cluster's. */
export function deadThrough(
  found: FoundThrough,
  tunnel: Tunnel,
  name: (node: NodeId) => string,
  wireguardPort: number,
): Failure | undefined {
  const gone = lostHosts(found);
  const called = (nodes: ReadonlySet<NodeId>): string =>
    [...nodes]
      .filter((node) => !gone.has(node))
      .map(name)
      .toSorted()
      .join(", ");
  const keyless = called(found[tunnel].keyless);
  if (keyless !== "")
    return {
      code: "UNREACHABLE",
      message: `no key of ${TITLES[tunnel]} with ${keyless}: containers there are in no answer on networks of that kind`,
      next: "see `overlay-ts status` there, which says why it cannot use networks of that kind",
    };
  const names = called(found[tunnel].lost);
  if (names === "") return undefined;
  const way = tunnel === "wireguard" ? `WireGuard's port (${wireguardPort}/udp)` : "ESP";
  return {
    code: "UNREACHABLE",
    message: `no answer through ${TITLES[tunnel]} from ${names}, which is there otherwise: containers there are in no answer on networks of that kind`,
    next: `let ${way} pass between the hosts, and see \`overlay-ts verify\` on both`,
  };
}
