import { expect, test } from "vitest";
import { Proving } from "../../../agent/proving.ts";
import { silentLog } from "../../../shared/ports.ts";
import { clusterState, nodeId } from "../../support/cluster.ts";

test("stopped while its device is being made: sockets are closed after that, and none is opened", async () => {
  const done: string[] = [];
  const making = Promise.withResolvers<void>();
  const proof = {
    set: async () => {
      await making.promise;
      done.push("set");
    },
    probe: () => Promise.reject(new Error("stopped")),
    remove: async () => {},
    close: async () => void done.push("close"),
  };
  const proving = new Proving({
    self: nodeId(1),
    proof,
    state: () => clusterState(2),
    near: () => new Set(),
    changed: () => {},
    log: silentLog,
  });
  const updated = proving.update();
  const stopped = proving.stop();
  making.resolve();
  await updated;
  await stopped;
  await proving.update();
  expect(done).toEqual(["set", "close"]);
});
