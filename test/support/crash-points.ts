import { isMainThread } from "node:worker_threads";

/**
 * Ends an agent by SIGKILL before or after one of its steps. Loaded into it from its own bundle by
 * `NODE_OPTIONS=--import=…/crash-points.js CRASH_AT=kernel.putPort:after:2`: the second time.
 */

const STEPS: Readonly<Record<string, readonly string[]>> = {
  store: ["write"],
  kernel: [
    "extend",
    "putRemotes",
    "removeFdb",
    "removeNeighbours",
    "putPort",
    "removePort",
    "retract",
  ],
  guards: ["set"],
  names: ["change", "serve", "withdraw"],
  driver: ["createNetwork", "createEndpoint", "join", "leave", "deleteEndpoint", "deleteNetwork"],
  ipam: ["requestPool", "requestAddress", "releaseAddress", "releasePool"],
};

/** Every step of an agent at which it can be ended, twice: before it and after it. */
export const CRASH_POINTS: readonly string[] = Object.entries(STEPS).flatMap(([part, steps]) =>
  steps.flatMap((step) => [`${part}.${step}:before`, `${part}.${step}:after`]),
);

export const CRASH_AT = "CRASH_AT";

type Method = (...args: unknown[]) => unknown;

async function arm(point: string): Promise<void> {
  const [name = "", when, nth = "1"] = point.split(":");
  const [part = "", step = ""] = name.split(".");
  let times = 0;
  const reached = (at: string): void => {
    if (at === when && ++times === Number(nth)) process.kill(process.pid, "SIGKILL");
  };
  const around = (work: Method): Method =>
    function (this: unknown, ...args) {
      reached("before");
      const result = work.apply(this, args);
      if (!(result instanceof Promise)) {
        reached("after");
        return result;
      }
      return result.then((value: unknown) => {
        reached("after");
        return value;
      });
    };
  const prototype = (await prototypeOf(part)) as Record<string, Method>;
  if (part !== "kernel") {
    prototype[step] = around(prototype[step]!);
    return;
  }
  const apply = prototype["apply"]!;
  prototype["apply"] = async function (this: unknown, network, steps) {
    for (const each of steps as { kind: string }[])
      await (each.kind === step ? around(apply) : apply).call(this, network, [each]);
  };
}

async function prototypeOf(part: string): Promise<object> {
  switch (part) {
    case "store":
      return (await import("../../agent/store/sqlite-store.ts")).SqliteStore.prototype;
    case "kernel":
      return (await import("../../agent/kernel/linux-kernel.ts")).LinuxKernel.prototype;
    case "guards":
      return (await import("../../agent/kernel/nft/nft-guards.ts")).NftGuards.prototype;
    case "names":
      return (await import("../../agent/names/server/linux-name-server.ts")).LinuxNameServer
        .prototype;
    case "driver":
      return (await import("../../agent/docker/network-driver.ts")).OverlayNetworkDriver.prototype;
    case "ipam":
      return (await import("../../agent/networks/ipam.ts")).OverlayIpam.prototype;
    default:
      throw new Error(`no part of an agent is called ${part}`);
  }
}

const asked = process.env[CRASH_AT];
if (asked !== undefined && isMainThread) await arm(asked);
