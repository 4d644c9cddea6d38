import type { Endpoint } from "../../../shared/documents.ts";
import { namesAsSaid, type OutReason } from "./names.ts";

/** The very same object when its names and its state are these already. `names` undefined: no container runs. */
export function withNames(
  endpoint: Endpoint,
  names: readonly string[] | undefined,
  out: OutReason | undefined,
): Endpoint {
  const reason = names === undefined ? undefined : out;
  if (reason === endpoint.out && sameNames(names, namesOfEndpoint(endpoint))) return endpoint;
  const { names: _, moreNames: __, out: ___, ...rest } = endpoint;
  return {
    ...rest,
    ...(names === undefined ? {} : namesAsSaid(names)),
    ...(reason === undefined ? {} : { out: reason }),
  };
}

export function namesOfEndpoint({
  names,
  moreNames = [],
}: Endpoint): readonly string[] | undefined {
  return names && [...names, ...moreNames];
}

function sameNames(a: readonly string[] | undefined, b: readonly string[] | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.length === b.length && a.every((name, i) => name === b[i]);
}
