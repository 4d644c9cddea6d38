import type { LocalPort, Step } from "../core/data-plane/kernel-state.ts";

/** What is done at once: a step, or neighbours of one kind among those of ports. */
export type Batch =
  | Exclude<Step, { kind: "putPort" | "removePort" }>
  | { readonly kind: "putPorts"; readonly ports: LocalPort[] }
  | { readonly kind: "removePorts"; readonly links: string[] };

/** So few that the kernel, which carries out a send at once, does not keep this thread for long. */
export const PORTS_AT_ONCE = 64;

/** It takes nothing away, and replaces nothing that the kernel would tell of as lost. */
export function isOnlyAdding({ kind }: Batch): boolean {
  return kind === "putRemotes" || kind === "putFlood";
}

/** In the order of the steps. */
export function batchesOf(steps: readonly Step[]): Batch[] {
  const batches: Batch[] = [];
  for (const step of steps) {
    const last = batches.at(-1);
    switch (step.kind) {
      case "putPort":
        if (last?.kind === "putPorts" && last.ports.length < PORTS_AT_ONCE)
          last.ports.push(step.port);
        else batches.push({ kind: "putPorts", ports: [step.port] });
        break;
      case "removePort":
        if (last?.kind === "removePorts" && last.links.length < PORTS_AT_ONCE)
          last.links.push(step.link);
        else batches.push({ kind: "removePorts", links: [step.link] });
        break;
      default:
        batches.push(step);
    }
  }
  return batches;
}
