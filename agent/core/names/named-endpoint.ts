import type { Endpoint } from "../../../shared/documents.ts";
import { namesAsSaid, type OutReason } from "./names.ts";

/** What is said of a container that runs. */
export interface Said {
  readonly names: readonly string[];
  readonly out: OutReason | undefined;
  readonly ports: readonly string[];
}

/** The very same object when that is said already. `said` undefined: no container runs. */
export function withNames(endpoint: Endpoint, said: Said | undefined): Endpoint {
  const { names, out, ports = [] } = said ?? {};
  const isSaid =
    out === endpoint.out &&
    sameNames(names, namesOfEndpoint(endpoint)) &&
    sameNames(ports, endpoint.ports ?? []);
  if (isSaid) return endpoint;
  const { names: _, moreNames: __, out: ___, ports: ____, ...rest } = endpoint;
  return {
    ...rest,
    ...(names === undefined ? {} : namesAsSaid(names)),
    ...(out === undefined ? {} : { out }),
    ...(ports.length === 0 ? {} : { ports: [...ports] }),
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
