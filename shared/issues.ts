import type { z } from "zod";
import { oneLine } from "./text.ts";

const SHOWN = 3;

/** The first of what is wrong, each with its place; a hostile message can have thousands. */
export function issuesOf({ issues }: z.ZodError): string {
  const shown = issues.slice(0, SHOWN).map(({ path, message }) => {
    const place = path.length === 0 ? "" : `${oneLine(path.join("."), 100)}: `;
    return `${place}${oneLine(message, 200)}`;
  });
  const more = issues.length - shown.length;
  return `${shown.join("; ")}${more > 0 ? `; and ${more} more` : ""}`;
}
