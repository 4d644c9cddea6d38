import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Who has a port of this network namespace, for people. */

/** TCP_LISTEN of net/tcp_states.h. */
const LISTEN = "0A";

/** `socat (process 123)`; undefined: no process has it, as far as can be seen. Of TCP: who listens. */
export function portHolder(protocol: "tcp" | "udp", port: number): string | undefined {
  const states = protocol === "tcp" ? [LISTEN] : undefined;
  const tables = [protocol, `${protocol}6`];
  const inodes = new Set(tables.flatMap((table) => inodesOn(table, port, states)));
  if (inodes.size === 0) return undefined;
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name)))
    if (descriptorsOf(pid).some((target) => inodes.has(target)))
      return `${nameOf(pid)} (process ${pid})`;
  return undefined;
}

/** As links of /proc/PID/fd have them. Columns of /proc/net/udp: proc(5); the others have the same. */
function inodesOn(table: string, port: number, states: readonly string[] | undefined): string[] {
  const end = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return textOf(`/proc/self/net/${table}`)
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(
      ([, local = "", , state = ""]) => local.endsWith(end) && (states?.includes(state) ?? true),
    )
    .map((columns) => `socket:[${columns[9]}]`);
}

function descriptorsOf(pid: string): string[] {
  const directory = `/proc/${pid}/fd`;
  try {
    return readdirSync(directory).map((fd) => {
      try {
        return readlinkSync(`${directory}/${fd}`);
      } catch {
        return "";
      }
    });
  } catch {
    // Ended meanwhile.
    return [];
  }
}

function nameOf(pid: string): string {
  return textOf(`/proc/${pid}/comm`).trim() || "a program";
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
