import { BOUNDS } from "./bounds.ts";

const LABEL_LENGTH = 63;

/** Names compare without regard to case (RFC 4343), and without the root's dot. */
export function canonicalName(text: string): string {
  return (text.endsWith(".") ? text.slice(0, -1) : text).toLowerCase();
}

/**
 * Can be asked for: RFC 1035's lengths, and characters that need no escape. Docker's own names are
 * such; an alias or a host name may be any text.
 */
export function isName(canonical: string): boolean {
  return canonical.length <= BOUNDS.nameLength && canonical.split(".").every(isLabel);
}

/** One label of a name, canonical. */
export function isLabel(text: string): boolean {
  return text.length <= LABEL_LENGTH && /^[a-z0-9_-]+$/.test(text);
}
