import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { LabHost } from "../support/lab-host.ts";

/**
 * The id, in this machine, of the agent of the host with this directory. Known by its environment: the data directory is in
 * this host's.
 */
export function agentPid(directory: string): number {
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const command = readFileSync(`/proc/${name}/cmdline`, "utf8").split("\0");
      const environment = readFileSync(`/proc/${name}/environ`, "utf8").split("\0");
      if (
        command[0]?.endsWith("/node") === true &&
        command.includes("agent") &&
        environment.includes(`OVERLAY_TS_DATA_DIR=${directory}/data`)
      )
        return Number(name);
    } catch {
      // Ended meanwhile.
    }
  }
  throw new Error(`no agent runs in ${directory}`);
}

/** The agent does nothing meanwhile, as one that hangs: whatever is changed stays so. */
export async function whileFrozen<T>(host: LabHost, work: () => Promise<T>): Promise<T> {
  const pid = agentPid(host.directory);
  process.kill(pid, "SIGSTOP");
  try {
    return await work();
  } finally {
    // nsenter stops with the program that it runs, and continues it.
    for (const id of [pid, parentOf(pid)]) process.kill(id, "SIGCONT");
  }
}

function parentOf(pid: number): number {
  return Number(/^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
}

/**
 * Sockets that an agent has in other network namespaces than its own: of networks, and of containers
 * whose names it serves. Each keeps its namespace alive.
 */
export function socketsElsewhere(pid: number): number {
  const own = new Set<string>();
  for (const table of readdirSync(`/proc/${pid}/net`))
    if (/^(tcp|udp|udplite|raw|icmp)6?$|^(unix|netlink|packet)$/.test(table))
      for (const line of readFileSync(`/proc/${pid}/net/${table}`, "utf8").split("\n"))
        for (const word of line.trim().split(/\s+/)) own.add(word);
  return readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    const inode = /^socket:\[(\d+)\]$/.exec(linkOf(`/proc/${pid}/fd/${fd}`))?.[1];
    return inode !== undefined && !own.has(inode);
  }).length;
}

/** Empty: closed meanwhile. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
