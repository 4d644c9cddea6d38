import type { Step, Wanted } from "../../agent/core/data-plane/kernel-state.ts";
import { plan } from "../../agent/core/data-plane/plan.ts";
import type { Kernel } from "../../agent/kernel/port.ts";
import type { ReconcilerModules } from "../../agent/kernel/reconciler.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NetworkId } from "../../shared/ids.ts";
import type { SimAgent } from "./sim-agent.ts";
import { chance, type World } from "./world.ts";

export interface SimKernel {
  readonly kernel: Kernel;
  readonly plan: ReconcilerModules["plan"];
}

/**
 * A host's kernel as one agent has it, and the real plan: steps fail now and then, what an agent does after it died
 * reaches nothing, and each pass is told to the monitor.
 */
export function simKernel(agent: SimAgent, world: World): SimKernel {
  const { host, random } = agent;
  const { kernel } = host;
  const { monitor, faults } = world;
  const wantedOf = new Map<NetworkId, Wanted>();

  const passed = (network: NetworkId): void => {
    monitor.passed(host, network, wantedOf.get(network));
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

  return {
    kernel: {
      list: () => afterDeathNever(agent) ?? kernel.list(),
      read: (network) => afterDeathNever(agent) ?? kernel.read(network),
      apply: async (network, steps) => {
        await afterDeathNever(agent);
        for (const step of steps) carryOut(network, step);
        passed(network);
      },
      onChange: (listener) =>
        kernel.onChange((network) => {
          if (agent.alive) listener(network);
        }),
      recheck: () => {},
      containerLink: (endpoint) => kernel.containerLink(endpoint),
      endsHere: () => kernel.endsHere(),
      giveBackEnd: (endpoint) => kernel.giveBackEnd(endpoint),
      close: () => kernel.close(),
    },
    plan: (held, wanted) => {
      const { network } = held;
      wantedOf.set(network, wanted);
      if (!agent.networks.desiredNetworks.right(network))
        monitor.violation(`h${host.k} keeps of ${network} what is not said`);
      if (wanted.kind === "present" && wanted.prune)
        monitor.mustHaveAsked(agent, network, "takes itself for in sync");
      const steps = plan(held, wanted);
      // What the reconciler believes to be there, the kernel must have.
      if (steps.length === 0) passed(network);
      return steps;
    },
  };
}

/** What an agent does after it died reaches nothing. */
function afterDeathNever({ alive }: SimAgent): Promise<never> | undefined {
  return alive ? undefined : new Promise(() => {});
}
