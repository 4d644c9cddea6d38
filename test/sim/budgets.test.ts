import { beforeAll, expect, test } from "vitest";
import { type Budgets, budgetsOf, SMALL, tooDear } from "./budgets.ts";

/** The soak has a thousand hosts (`npm run sim -- --budgets`). */
let small: Budgets;
beforeAll(async () => {
  small = await budgetsOf(SMALL.hosts, SMALL.networks);
}, 120_000);

test("a block, a container and a minute of nothing cost what they may, at ten hosts and at thirty", async () => {
  expect(tooDear(small, small)).toEqual([]);
  const larger = await budgetsOf(30, 15);
  expect(tooDear(larger, small)).toEqual([]);
  // All but the one that asks and the one beside the controller.
  expect(larger.block).toHaveLength(28);
  expect(larger.start.filter(({ messages }) => messages > 0).length).toBeGreaterThan(5);
}, 120_000);

test("what costs more is named", () => {
  const [block, start, idle] = [small.block[0]!, small.start[0]!, small.idle[0]!];
  const dear = {
    failures: ["no rest"],
    block: [
      {
        ...block,
        revisions: 1,
        messageBytes: 1025,
        copies: 1,
        copiedBytes: 1025,
        states: 1,
        parsed: 2,
        signatures: 2,
      },
    ],
    start: [{ ...start, isOn: false, copies: 1, dumped: 1, drifts: 1, messageBytes: 1025 }],
    idle: [{ ...idle, bytes: 65_537, signatures: 1, written: 1 }],
  };
  expect(tooDear(dear, small)).toHaveLength(13);
  const unheard = { ...small, block: [{ ...block, parsed: 0 }] };
  expect(tooDear(unheard, small)).toEqual([expect.stringMatching(/0 of 1 hosts heard/)]);
  expect(tooDear({ ...small, idle: [] }, small)).toEqual([expect.stringMatching(/nothing was/)]);
});
