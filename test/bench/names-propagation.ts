import { setTimeout as delay } from "node:timers/promises";
import { netnsOf } from "../lab/containers.ts";
import { IMAGE, type Lab, switchOf } from "../lab/lab.ts";
import { Asking } from "../support/asking.ts";
import { type LabHost, NAMESERVER } from "../support/lab-host.ts";
import { UpstreamDns } from "../support/upstream-dns.ts";
import { quantile, round } from "./statistics.ts";

export interface NamesPropagation {
  readonly containers: number;
  readonly comesP50Ms: number;
  readonly comesP99Ms: number;
  readonly goesP50Ms: number;
  readonly goesP99Ms: number;
}

/** Between two questions: what a figure is exact to, with what the answer takes. */
const EVERY_MS = 1;
const GIVE_UP_MS = 30_000;

/**
 * From a container's first instruction, as Docker dates it, until a container on another host finds
 * its name, and from the end of its process until it finds it no longer. Where the name is there first it
 * counts as 0. All in one machine, so by one clock.
 */
export async function measureNames(
  lab: Lab,
  network: string,
  containers: number,
): Promise<NamesPropagation> {
  const [from, other] = lab.hosts;
  if (from === undefined || other === undefined) throw new Error("two hosts are needed");
  // A name that is gone is asked for outside: somebody must say that it is not there.
  const upstream = await UpstreamDns.start(switchOf(lab), NAMESERVER);
  const comes: number[] = [];
  const goes: number[] = [];
  try {
    const held = ["run", "-d", "--name", "bench-asks", "--network", network];
    await other.docker(...held, IMAGE, "/bin/sleep", "100000");
    const asking = new Asking(await netnsOf(other, "bench-asks"));
    for (let i = 0; i < containers; i++) {
      const name = `bench-named-${i}`;
      const found = until(asking, name, true);
      const run = ["run", "-d", "--name", name, "--network", network];
      await from.docker(...run, IMAGE, "/bin/sleep", "100000");
      const foundMs = await found;
      const lost = until(asking, name, false);
      await from.docker("kill", name);
      const lostMs = await lost;
      comes.push(Math.max(0, foundMs - (await stateMs(from, name, "StartedAt"))));
      goes.push(Math.max(0, lostMs - (await stateMs(from, name, "FinishedAt"))));
      await from.docker("rm", name);
    }
  } finally {
    await other.docker("rm", "-f", "bench-asks").catch(() => {});
    upstream.close();
  }
  return {
    containers,
    comesP50Ms: round(quantile(comes, 0.5), 1),
    comesP99Ms: round(quantile(comes, 0.99), 1),
    goesP50Ms: round(quantile(goes, 0.5), 1),
    goesP99Ms: round(quantile(goes, 0.99), 1),
  };
}

/** @returns when the question was asked whose answer has an address, or has none any more. */
async function until(asking: Asking, name: string, there: boolean): Promise<number> {
  const giveUpMs = performance.now() + GIVE_UP_MS;
  for (;;) {
    const { rcode, data, tookMs } = await asking.ask(name, { timeoutMs: 1000 });
    if (rcode !== "NONE" && data.length > 0 === there)
      return performance.timeOrigin + performance.now() - tookMs;
    if (performance.now() > giveUpMs)
      throw new Error(`${name} is ${there ? "not found" : "found still"} after ${GIVE_UP_MS} ms`);
    await delay(EVERY_MS);
  }
}

/** Milliseconds of the wall clock. */
async function stateMs(host: LabHost, name: string, field: string): Promise<number> {
  const text = await host.docker("inspect", "-f", `{{.State.${field}}}`, name);
  const [seconds = "", fraction = "0Z"] = text.trim().split(".");
  return Date.parse(`${seconds}Z`) + Number(`0.${fraction.slice(0, -1)}`) * 1000;
}
