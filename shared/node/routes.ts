import type { z } from "zod";
import { OverlayError } from "../errors.ts";
import { issuesOf } from "../issues.ts";
import { oneLine } from "../text.ts";
import type { Routes } from "./unix-http.ts";

/**
 * What a route takes is said once; everything else is refused by name. A key that is misspelt, or of
 * a later version, would otherwise be left out in silence.
 */
type Route = Routes[string];

/** Takes nothing. */
export function bare(answer: () => Promise<unknown>): Route {
  return async (query, body) => {
    onlyKnown([...query.keys()], []);
    noBody(body);
    return answer();
  };
}

/** Takes these keys in the query, each at most once. */
export function byQuery<K extends string>(
  known: readonly K[],
  answer: (query: Partial<Record<K, string>>, signal: AbortSignal) => Promise<unknown>,
): Route {
  return async (query, body, signal) => {
    onlyKnown([...query.keys()], known);
    noBody(body);
    const given = known.flatMap((key) => {
      const values = query.getAll(key);
      if (values.length > 1)
        throw new OverlayError({
          code: "INVALID",
          message: `${key} is given ${values.length} times`,
          next: "give it once",
        });
      return values.map((value) => [key, value] as const);
    });
    return answer(Object.fromEntries(given) as Partial<Record<K, string>>, signal);
  };
}

/** Takes a JSON object of this schema. */
export function byBody<S extends z.ZodObject>(
  schema: S,
  answer: (body: z.infer<S>) => Promise<unknown>,
): Route {
  return async (query, body) => {
    onlyKnown([...query.keys()], []);
    const known = Object.keys(schema.shape);
    if (typeof body === "object" && body !== null && !Array.isArray(body))
      onlyKnown(Object.keys(body), known);
    const parsed = schema.safeParse(body ?? {});
    if (parsed.success) return answer(parsed.data);
    throw new OverlayError(
      {
        code: "INVALID",
        message: `the request is not understood: ${issuesOf(parsed.error)}`,
        next: `give one JSON object of ${known.join(", ")}`,
      },
      { cause: parsed.error },
    );
  };
}

/** @throws INVALID with the first of them and what there is. */
function onlyKnown(given: readonly string[], known: readonly string[]): void {
  const unknown = given.find((key) => !known.includes(key));
  if (unknown === undefined) return;
  throw new OverlayError({
    code: "INVALID",
    message: `nobody here knows the key ${oneLine(unknown, 64)}`,
    next: known.length === 0 ? "this request takes none" : `known are ${known.join(", ")}`,
  });
}

function noBody(body: unknown): void {
  if (body === undefined) return;
  throw new OverlayError({
    code: "INVALID",
    message: "this request takes no body",
    next: "send none",
  });
}
