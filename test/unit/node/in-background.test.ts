import { expect, test } from "vitest";
import { inBackground } from "../../../shared/node/in-background.ts";
import { silentLog } from "../../../shared/ports.ts";

test("work that nobody waits for ends in the log with its cause when it fails, and in silence else", async () => {
  const logged: { fields: object; message: string }[] = [];
  const log = {
    ...silentLog,
    warn: (fields: object, message: string) => void logged.push({ fields, message }),
  };
  const error = new Error("no socket");
  inBackground(Promise.resolve(), log, "done");
  inBackground(Promise.reject(error), log, "listing failed; tried again");
  await new Promise(setImmediate);
  expect(logged).toEqual([{ fields: { err: error }, message: "listing failed; tried again" }]);
});
