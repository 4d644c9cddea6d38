import { expect, test } from "vitest";
import { metText, nobody } from "../../../agent/cli/controller-meeting.ts";
import type { PortAnswer } from "../../../shared/node/tcp-port.ts";
import { clusterState, nodeId } from "../../support/cluster.ts";

const state = clusterState(4);
const saying =
  (...kinds: ("accepts" | "refuses" | "silent")[]) =>
  async (address: string): Promise<PortAnswer> => ({
    kind: kinds[Number(address.split(".").at(-1)) - 1] ?? "refuses",
  });

test("of hosts that did not answer, those that are slow are told apart from those that are away", async () => {
  const met = {
    newest: undefined,
    answered: [nodeId(1), nodeId(2)],
    silent: [nodeId(3), nodeId(4)],
  };
  const text = await metText(met, state, saying("silent", "silent", "accepts", "refuses"));
  expect(text).toMatch(
    /^2 of 4 hosts answered; no answer from h3, h4: 7947\/tcp of h3 takes connections.*busy; 7947\/tcp of h4 refuses/,
  );
  const all = { newest: undefined, answered: state.nodes.map(({ id }) => id), silent: [] };
  expect(await metText(all, state, saying())).toBe("4 of 4 hosts answered.");
});

test("nobody answers: with one that is slow it is worth asking again, without it is not", async () => {
  expect(await nobody(state, saying("silent", "accepts", "silent", "silent"))).toMatchObject({
    code: "TIMEOUT",
    message: expect.stringMatching(/of 4: .*h1, h3, h4 does not answer.*h2 takes connections/),
  });
  expect(await nobody(state, saying())).toMatchObject({
    code: "UNREACHABLE",
    next: expect.stringMatching(
      /systemctl status overlay-ts-agent.*another controller has taken over/,
    ),
  });
});
