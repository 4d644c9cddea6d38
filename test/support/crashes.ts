import { afterEach, expect } from "vitest";

/** Whatever nobody caught, from now on: after each test there must be none. */
export function failOnCrashes(): void {
  const crashes: unknown[] = [];
  process.on("uncaughtException", (error) => crashes.push(error));
  process.on("unhandledRejection", (error) => crashes.push(error));
  afterEach(async () => {
    // Rejections are told after the microtasks of the turn they came in.
    await new Promise((resolve) => setImmediate(resolve));
    expect(crashes.splice(0)).toEqual([]);
  });
}
