import { setTimeout as delay } from "node:timers/promises";

/** Again until it succeeds; a failure is thrown when its time, counted from the start, is over. */
export async function waitFor<T>(
  attempt: () => Promise<T>,
  timeoutMs: (error: unknown) => number,
): Promise<T> {
  const begunMs = Date.now();
  for (;;)
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() - begunMs > timeoutMs(error)) throw error;
      await delay(100);
    }
}
