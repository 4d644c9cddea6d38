import type { HeldNetwork } from "../../agent/core/data-plane/held-network.ts";
import type { Step, Wanted } from "../../agent/core/data-plane/kernel-state.ts";
import { plan } from "../../agent/core/data-plane/plan.ts";
import type { DesiredNetworks } from "../../agent/networks/desired-networks.ts";
import { Reconciler } from "../../agent/kernel/reconciler.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NetworkId } from "../../shared/ids.ts";
import { silentLog, type Timers } from "../../shared/ports.ts";
import type { SimAgent } from "./sim-agent.ts";
import { chance, type World } from "./world.ts";

const RETRY_FIRST_MS = 150;
const RETRY_MOST_MS = 1200;

/** The real reconciler over a host's kernel, in which steps fail now and then; each pass is told to the monitor. */
export function simReconciler(
  agent: SimAgent,
  world: World,
  timers: Timers,
  { want, right }: Pick<DesiredNetworks, "want" | "right">,
): Reconciler {
  const { host, random } = agent;
  const { kernel } = host;
  const { monitor, faults, options } = world;
  const wanted = new Map<NetworkId, Wanted>();

  const passed = (network: NetworkId): void => {
    monitor.passed(host, network, wanted.get(network));
  };

  const carryOut = (network: NetworkId, step: Step): void => {
    if (world.faulty && chance(random, 2)) {
      faults.kernelFailures++;
      throw new OverlayError({ code: "NETLINK", message: "the kernel refused, for once" });
    }
    monitor.stepBegins(host, network, step);
    kernel.applyNow(network, [step]);
    world.trace(`h${host.k} ${step.kind} ${network.slice(0, 6)}`);
    monitor.stepDone(agent, agent.localNetworks.find(network), network, step);
  };

  return new Reconciler(
    {
      coalesceMs: options.coalesceMs,
      retryFirstMs: RETRY_FIRST_MS,
      retryMostMs: RETRY_MOST_MS,
    },
    {
      timers,
      log: silentLog,
      kernel: {
        read: (network) => afterDeathNever(agent) ?? kernel.read(network),
        apply: async (network, steps) => {
          await afterDeathNever(agent);
          for (const step of steps) carryOut(network, step);
          passed(network);
        },
      },
      want: (network) => {
        const is = want(network);
        if (!right(network)) monitor.violation(`h${host.k} keeps of ${network} what is not said`);
        if (is.kind === "present" && is.prune)
          monitor.mustHaveAsked(agent, network, "takes itself for in sync");
        return is;
      },
      rightWanted: right,
      plan: (held: HeldNetwork, is: Wanted) => {
        wanted.set(held.network, is);
        const steps = plan(held, is);
        // What the reconciler believes to be there, the kernel must have.
        if (steps.length === 0) passed(held.network);
        return steps;
      },
    },
  );
}

/** What an agent does after it died reaches nothing. */
function afterDeathNever({ alive }: SimAgent): Promise<never> | undefined {
  return alive ? undefined : new Promise(() => {});
}
