/** A clock is corrected by as much every day. */
const CLOCK_SLACK_MS = 5 * 60_000;

/** Written down by a clock that was ahead of what it is now: whatever counts from it would last too long. */
export function isOfTheFuture(atMs: number, wallMs: number): boolean {
  return atMs > wallMs + CLOCK_SLACK_MS;
}
