import { readdirSync } from "node:fs";
import { isPinnedNetns } from "../../agent/kernel/netns.ts";
import type { LabHost } from "../support/lab-host.ts";

/** What listens on a host, in whatever namespace, as README.md's table names it. */

/** Docker's own, which are there without us. */
const DOCKERS = /"(dockerd|containerd|docker-proxy|containerd-shim\S*|docker-init)"/;

/** Tables of the host's namespaces: `ss` says in each what is in that one. */
export async function listening(host: LabHost): Promise<string[]> {
  const found = await tcpAndUdp(host, []);
  for (const place of ["/run/overlay-ts/netns", "/run/docker/netns"])
    for (const name of readdirSync(host.path(place)))
      // Of a sandbox that has gone Docker leaves the file on which it was mounted.
      if (isPinnedNetns(host.path(`${place}/${name}`)))
        found.push(...(await tcpAndUdp(host, ["nsenter", `--net=${place}/${name}`])));
  return [...new Set([...found, ...(await unix(host))])].toSorted();
}

/** `7947/tcp`; what a container alone reaches, on a port that says nothing: `127.0.0.11`. */
async function tcpAndUdp(host: LabHost, inside: readonly string[]): Promise<string[]> {
  const rows = await ours(host, [...inside, "ss", "-Hltunp"]);
  return rows.map(([protocol = "", , , , local = ""]) => {
    const at = local.lastIndexOf(":");
    const [address, port] = [local.slice(0, at), local.slice(at + 1)];
    return address === "127.0.0.11" ? address : `${port}/${protocol}`;
  });
}

async function unix(host: LabHost): Promise<string[]> {
  const rows = await ours(host, ["ss", "-Hxlp"]);
  // As who listens called it: /var/run is a link.
  return rows.map(([, , , , path = ""]) => path.replace(/^\/var(?=\/run\/)/, ""));
}

async function ours(host: LabHost, command: readonly string[]): Promise<string[][]> {
  const lines = (await host.exec(...command)).split("\n").filter(Boolean);
  return lines.filter((line) => !DOCKERS.test(line)).map((line) => line.split(/\s+/));
}

/** First cells of README.md's table of what listens. */
export function listed(readme: string): string[] {
  const [, table = ""] = /^\| listens on .*\n\|[ -|]+\n((?:\|.*\n)+)/m.exec(readme) ?? [];
  return [...table.matchAll(/^\| ([^|]+?) *\|/gm)].map(([, cell = ""]) => cell.replaceAll("`", ""));
}
