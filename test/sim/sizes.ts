import type { SimOptions } from "./world.ts";

/** What is not given follows from the seed, or from the number of hosts. */
export type Size = {
  readonly [K in "nodes" | "networks" | "endpoints" | "chaosMs"]?: number | undefined;
} & { readonly preloaded?: boolean | undefined };

export function optionsOf(seed: number, size: Size = {}): SimOptions {
  const nodes = size.nodes ?? 5 + (seed % 4);
  const small = nodes <= 16;
  return {
    seed,
    nodes,
    networks: size.networks ?? (small ? 3 : Math.ceil(nodes / 5)),
    endpoints: size.endpoints ?? (small ? 14 : nodes * 5),
    chaosMs: size.chaosMs ?? (small ? 12_000 : size.preloaded === true ? 10_000 : 30_000),
    coalesceMs: small ? 5 : 100,
    ...(size.preloaded === true && { preloaded: true }),
  };
}
