import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "vitest";
import { Asking } from "../support/asking.ts";
import { DnsSandbox } from "../support/dns-sandbox.ts";

/** What labs ask with must not take a busy machine for a question that nobody answered. */

test("an answer that came while this process had no CPU is an answer", async () => {
  const sandbox = await DnsSandbox.open();
  try {
    const timeoutMs = 500;
    const asked = new Asking(sandbox.path).ask("www.test", { timeoutMs });
    // Its socket is there, and the question sent.
    for (let turns = 0; turns < 10; turns++) await turn();
    const untilMs = performance.now() + 2 * timeoutMs;
    while (performance.now() < untilMs);
    expect(await asked).toMatchObject({ rcode: "NOERROR" });
  } finally {
    await sandbox.close();
  }
});
