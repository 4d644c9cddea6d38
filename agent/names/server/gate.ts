import { closeSync } from "node:fs";
import { OverlayError } from "../../../shared/errors.ts";
import { inNetns, namespaceAt, namespaceOf } from "../../kernel/netns.ts";
import { type ContainersNftables, containersNftables } from "../../kernel/nft/nft-program.ts";
import { GATE_TABLE, gateTable, leadsTo } from "./gate-table.ts";
import {
  type GateSockets,
  MARK,
  openGateSockets,
  openRawSocket,
  portOf,
  setTransparent,
} from "./sockets.ts";

/** Before `lo` has its addresses, and between the first and the last of them. */
const NOT_UP: ReadonlySet<string | undefined> = new Set(["ENETUNREACH", "EADDRNOTAVAIL"]);

/** What diverts a sandbox's questions to us: sockets in its namespace, and a table that leads to them. */
export interface Gate {
  readonly sockets: GateSockets;
  readonly port: number;
  /** The inode of the namespace: another one at the same path is another sandbox. */
  readonly namespace: number;
}

/** Of a gate that an earlier agent, or worker, made. */
export interface KeptSockets {
  readonly udp: number;
  readonly tcp: number;
  readonly raw?: number;
}

/** @returns undefined: `lo` is not up yet. @throws NETLINK, UNSUPPORTED */
export function openGate(path: string): Gate | undefined {
  try {
    return inNetns(path, () => {
      const sockets = openGateSockets();
      try {
        const port = portOf(sockets.udp);
        withNftables((nftables) => write(nftables, port));
        return { sockets, port, namespace: namespaceOf(sockets.udp) };
      } catch (error) {
        for (const fd of Object.values(sockets)) closeSync(fd as number);
        throw error;
      }
    });
  } catch (error) {
    if (error instanceof OverlayError && NOT_UP.has(error.errno)) return undefined;
    throw error;
  }
}

/** @returns undefined: these are no sockets of a gate in this namespace. @throws NETLINK */
export function adoptGate(path: string, { udp, tcp, raw }: KeptSockets): Gate | undefined {
  let port: number;
  const namespace = namespaceAt(path);
  try {
    if (namespaceOf(udp) !== namespace || namespaceOf(tcp) !== namespace) return undefined;
    port = portOf(udp);
    if (portOf(tcp) !== port) return undefined;
  } catch {
    return undefined;
  }
  return inNetns(path, () => {
    const sending = raw ?? openRawSocket();
    try {
      withNftables((nftables) => mend(nftables, port));
      for (const fd of [udp, tcp]) setTransparent(fd, true);
    } catch (error) {
      if (raw === undefined) closeSync(sending);
      throw error;
    }
    return { sockets: { udp, tcp, raw: sending }, port, namespace };
  });
}

/** @returns true: the table was gone, or not as it should be, and is put back. @throws NETLINK */
export function mendGate(path: string, port: number): boolean {
  return inNetns(path, () => withNftables((nftables) => mend(nftables, port)));
}

/** @throws NETLINK */
export function removeTable(path: string): void {
  inNetns(path, () =>
    withNftables((nftables) => {
      if (nftables.list(GATE_TABLE) === undefined) return;
      nftables.run(`delete table ${GATE_TABLE}\n`, "delete table");
    }),
  );
}

function withNftables<T>(work: (nftables: ContainersNftables) => T): T {
  const nftables = containersNftables();
  try {
    return work(nftables);
  } finally {
    nftables.close();
  }
}

function mend(nftables: ContainersNftables, port: number): boolean {
  const listed = nftables.list(GATE_TABLE);
  if (listed !== undefined && leadsTo(listed, port)) return false;
  write(nftables, port);
  return true;
}

/** A new table is made without deleting first: that alone is what takes time. */
function write(nftables: ContainersNftables, port: number): void {
  const table = gateTable(port, MARK);
  try {
    nftables.run(`create table ${GATE_TABLE}\n${table}`, "create table");
  } catch (error) {
    if (!(error instanceof OverlayError) || error.errno !== "EEXIST") throw error;
    nftables.run(`delete table ${GATE_TABLE}\n${table}`, "replace table");
  }
}
