import { expect, test } from "vitest";
import { Bindings } from "../../../agent/bindings.ts";
import type { ControllerLink } from "../../../agent/controller-link.ts";
import { Tables } from "../../../agent/core/tables.ts";
import { Ending } from "../../../agent/ending.ts";
import { Disk } from "../../../agent/store/disk.ts";
import { MemoryStore } from "../../../agent/store/memory-store.ts";
import type { ControlRequest } from "../../../controller/wire/messages.ts";
import type { NodeId } from "../../../shared/ids.ts";
import { silentLog } from "../../../shared/ports.ts";
import { app, clusterState, nodeId } from "../../support/cluster.ts";

/** Host 1 made `app` and removed its view; 1 to 3 have a block of it each, 4 has none. */
function made(lost: readonly NodeId[]) {
  const tables = new Tables();
  const { blocks, ...state } = clusterState(4);
  tables.mergeState({ ...state, blocks: blocks.filter(({ node }) => node !== nodeId(4)) });
  const bindings = new Bindings(new Disk(new MemoryStore()));
  bindings.markRemoved(app.id);
  const asked: ControlRequest[] = [];
  const request = async (question: ControlRequest): Promise<unknown> => void asked.push(question);
  const ending = new Ending({
    self: nodeId(1),
    bindings,
    hosting: { find: () => app },
    replication: { tables },
    controller: { request: request as ControllerLink["request"] },
    lost: () => new Set(lost),
    log: silentLog,
  });
  return { ending, asked };
}

test("a network that nobody needs ends, also while a host that could not use it is out of reach", async () => {
  for (const lost of [[], [nodeId(4)]]) {
    const { ending, asked } = made(lost);
    await ending.decide(app.id);
    expect(asked).toMatchObject([{ kind: "removeNetwork", network: app.id }]);
    expect([...ending.undecided()]).toEqual([]);
  }
});

test("while a host that has addresses of it is out of reach it is put back", async () => {
  const { ending, asked } = made([nodeId(3)]);
  await ending.decide(app.id);
  expect(asked).toEqual([]);
  expect([...ending.undecided()]).toEqual([]);
});
