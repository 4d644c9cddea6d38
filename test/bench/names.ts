import { LinuxNameServer } from "../../agent/names/server/linux-name-server.ts";
import { silentLog } from "../../shared/ports.ts";
import type { Measure, Measured } from "../support/dns-programs/meter.ts";
import { DnsSandbox } from "../support/dns-sandbox.ts";
import { holder, holders, network, on } from "../support/names.ts";
import { median, quantile, round } from "./statistics.ts";

/** Times in milliseconds, medians of the rounds; of one container that asks over one socket. */
export interface Names {
  /** Answers to names of ours, as many as there are with 64 questions unanswered. */
  readonly oursPerSecond: number;
  /** By the processor time of the whole agent process: what one core would give. */
  readonly oursPerCoreSecond: number;
  readonly atPerSecond: number;
  readonly oursP50Ms: number;
  readonly oursP99Ms: number;
  readonly oursLost: number;
  /** Of all rounds: what the kernel had no room for at our sockets. */
  readonly kernelDrops: number;
  /** Names outside at 1,000 a second: handed on by us, and without us. */
  readonly forwardedP50Ms: number;
  readonly forwardedP99Ms: number;
  readonly aloneP50Ms: number;
  readonly aloneP99Ms: number;
  /** Until names are served in so many containers at once. */
  readonly sandboxes: number;
  readonly servedMs: number;
}

export interface NamesEffort {
  readonly rounds: number;
  readonly forMs: number;
  readonly perSecond: number;
  readonly sandboxes: number;
}

/** Names of ours beside those of a stand-in for Docker's resolver, in the same run. */
export async function measureNames(effort: NamesEffort): Promise<Names> {
  const { rounds, forMs, perSecond } = effort;
  const sandbox = await DnsSandbox.open();
  const server = new LinuxNameServer({}, silentLog);
  const found: Record<string, number[]> = {};
  const note = (name: string, value: number): void => void (found[name] ??= []).push(value);
  try {
    await server.start();
    server.change([network(1, "app"), holders(1, [holder(5, ["db"]), holder(6, ["db"])])]);
    const meter = sandbox.program("meter");
    const measure = (what: Measure): Promise<Measured> =>
      new Promise((resolve) => {
        meter.once("message", (measured) => resolve(measured as Measured));
        meter.send(what);
      });
    const outside = { name: "www.test", forMs, pace: { perSecond: 1000 } };
    for (let i = 0; i < rounds; i++) {
      const alone = await measure(outside);
      note("aloneP50", quantile(alone.times, 0.5));
      note("aloneP99", quantile(alone.times, 0.99));
      await server.serve(sandbox.sandbox([on(1)]));
      const before = process.cpuUsage();
      const most = await measure({ name: "db", forMs, pace: { unanswered: 64 } });
      const { user, system } = process.cpuUsage(before);
      note("most", most.answered / most.seconds);
      note("perCore", most.answered / ((user + system) / 1e6));
      const ours = await measure({ name: "db", forMs, pace: { perSecond } });
      note("oursP50", quantile(ours.times, 0.5));
      note("oursP99", quantile(ours.times, 0.99));
      note("lost", ours.asked - ours.answered);
      const forwarded = await measure(outside);
      note("forwardedP50", quantile(forwarded.times, 0.5));
      note("forwardedP99", quantile(forwarded.times, 0.99));
      await server.withdraw(sandbox.id);
    }
    const { kernelDrops = 0 } = await server.counters();
    const servedMs = await measureServing(server, effort.sandboxes);
    const of = (name: string, digits = 2): number => round(median(found[name] ?? []), digits);
    return {
      oursPerSecond: of("most", 0),
      oursPerCoreSecond: of("perCore", 0),
      atPerSecond: perSecond,
      oursP50Ms: of("oursP50"),
      oursP99Ms: of("oursP99"),
      oursLost: of("lost", 0),
      kernelDrops,
      forwardedP50Ms: of("forwardedP50"),
      forwardedP99Ms: of("forwardedP99"),
      aloneP50Ms: of("aloneP50"),
      aloneP99Ms: of("aloneP99"),
      sandboxes: effort.sandboxes,
      servedMs,
    };
  } finally {
    await server.stop("handOver");
    await sandbox.close();
  }
}

async function measureServing(server: LinuxNameServer, count: number): Promise<number> {
  const sandboxes = Array.from({ length: count }, () => new DnsSandbox());
  try {
    for (const sandbox of sandboxes) {
      sandbox.mount();
      sandbox.up();
    }
    const begunMs = performance.now();
    await Promise.all(sandboxes.map((sandbox) => server.serve(sandbox.sandbox([on(1)]))));
    const tookMs = performance.now() - begunMs;
    const states = (await server.sandboxes()).map(({ state }) => state);
    if (states.some((state) => state !== "serving")) throw new Error("not all are served");
    await Promise.all(sandboxes.map(({ id }) => server.withdraw(id)));
    return round(tookMs, 0);
  } finally {
    for (const sandbox of sandboxes) await sandbox.close();
  }
}
