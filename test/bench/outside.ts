import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Lab } from "../lab/lab.ts";
import { netnsOf, OURS, start } from "../lab/containers.ts";
import type { LabHost } from "../support/lab-host.ts";
import { measureAttach } from "./attach.ts";
import { median, round } from "./statistics.ts";

/**
 * What leaving by the network costs, beside Docker's docker_gwbridge: `docker run`, what Docker waits for in our calls,
 * and a round trip to what is outside, in turn. `node test/bench/outside.ts` (Node 24, root, a C compiler; two minutes).
 */

const RUNS = 25;
const ROUNDS = 15;
const ROUND_TRIPS = 50;

const directory = mkdtempSync(join(tmpdir(), "overlay-ts-bench-"));
const programs = mkdtempSync(join(tmpdir(), "overlay-ts-bench-"));
const pingPong = join(programs, "ping-pong");

/** Medians of microseconds, of containers by the one way and the other in turn. */
function roundTrips(ways: readonly string[], outside: string): number[] {
  const times = ways.map((): number[] => []);
  for (let i = 0; i < ROUNDS; i++)
    for (const [k, netns] of ways.entries()) {
      // Of any address of the container: whichever leads there.
      const args = [netns, "0.0.0.0", outside, "198.51.100.2", String(ROUND_TRIPS)];
      times[k]?.push(Number(execFileSync(pingPong, args, { encoding: "utf8" })));
    }
  return times.map((of) => median(of));
}

try {
  execFileSync("cc", ["-O2", "-o", pingPong, join(import.meta.dirname, "ping-pong.c")]);
  const lab = await Lab.up({ directory, hosts: 2, docker: true, say: () => {} });
  await lab.form(() => {});
  const [host, other] = lab.hosts as [LabHost, LabHost];
  await host.docker(...OURS, "app");
  await start(host, "by-network", "app");
  await start(host, "by-bridge", "app", "-p", "8080:80");
  const ways = [await netnsOf(host, "by-network"), await netnsOf(host, "by-bridge")];
  const [byNetwork = NaN, byBridge = NaN] = roundTrips(ways, other.netns);
  const attach = await measureAttach(lab, "app", RUNS);
  const { plugin } = await host.status();
  const took = Object.entries(plugin?.calls ?? {}).map(([call, counts]) => [call, counts.took]);
  const figures = {
    roundTripUs: { byNetwork, byBridge, more: round(byNetwork - byBridge) },
    attach,
    took: Object.fromEntries(took) as object,
  };
  process.stdout.write(`${JSON.stringify(figures, undefined, 2)}\n`);
} finally {
  await Lab.down(directory);
  rmSync(programs, { recursive: true, force: true });
}
