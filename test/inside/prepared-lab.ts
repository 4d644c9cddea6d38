import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Lab } from "../lab/lab.ts";
import { eventually } from "../support/lab-host.ts";

/** Names the directory of the lab in the guest's environment. */
export const PREPARED_LAB = "PREPARED_LAB";
export const NETWORKS = { plain: "none", sealed: "ipsec" } as const;

/**
 * Two hosts of a cluster with a network of each kind, on which both are and have addresses; they have
 * ended, what they had on disk is here. Made on the machine itself, where a start of Node costs a
 * fiftieth of what it costs in software; `Lab.again` goes on from there, without a controller.
 */
export async function prepareLab(): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "overlay-ts-prepared-lab-"));
  const lab = await Lab.up({ directory, hosts: 2, docker: false, say: () => {} });
  try {
    await lab.form(() => {});
    for (const [name, encryption] of Object.entries(NETWORKS))
      await lab.host("h1").overlay("network", "create", name, "-o", `encryption=${encryption}`);
    for (const host of lab.hosts) {
      await eventually(20_000, "the network's address", () =>
        host.overlay("network", "expose", "plain"),
      );
      // This machine's kernel may have no ESP: then it is refused, and block and key are there all the same.
      await host.overlay("network", "expose", "sealed").catch(() => {});
      // It leaves what it has compiled for the next.
      await host.stopService("agent", "TERM");
    }
  } finally {
    await Lab.end(directory);
  }
  return directory;
}
