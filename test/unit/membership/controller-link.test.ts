import { expect, test, vi } from "vitest";
import { ControllerLink } from "../../../agent/membership/controller-link.ts";
import type { ControlChannel } from "../../../controller/wire/channel.ts";
import { ControlClient } from "../../../controller/wire/client.ts";
import type { ControlAnswer, ControlRequest } from "../../../controller/wire/messages.ts";
import type { SignedState, Takes } from "../../../shared/cluster-state.ts";
import { decodeCbor, encodeCbor } from "../../../shared/codec.ts";
import { Ip } from "../../../shared/ip.ts";
import { silentLog } from "../../../shared/ports.ts";
import { app, nodeId } from "../../support/cluster.ts";
import { PATIENT } from "../../support/patient.ts";

const signed: SignedState = { jws: "new", controllerCertificate: "" };
const done: ControlAnswer = { v: 1, kind: "done", state: signed };
const refused = (code: string): ControlAnswer => ({
  v: 1,
  kind: "failed",
  failure: { code, message: `it is ${code}` },
});

function linked() {
  const asked: ControlRequest[] = [];
  const came: SignedState[] = [];
  let answer: ControlAnswer | undefined = done;
  let watches = 0;
  const newest: number[] = [];
  const takes: Takes = { held: { revision: 7, root: "r".repeat(43) } };
  let [isLacking, leadsNowhere] = [false, false];
  let heard = (_bytes: Uint8Array): void => {};
  let isHere = true;
  let cut = (): void => {};
  const channel: ControlChannel = {
    exchange: async (_to, request) => {
      asked.push(decodeCbor(request, 1e6) as ControlRequest);
      if (answer === undefined) throw new Error("nobody there");
      return { bytes: encodeCbor(answer), peer: nodeId(9) };
    },
    watch: (_to, hears, signal) => {
      watches++;
      heard = hears;
      return new Promise((_resolve, reject) => {
        cut = () => reject(new Error("it ended"));
        signal.addEventListener("abort", () => reject(new Error("aborted")), { once: true });
      });
    },
    close: async () => {},
  };
  const address = { address: Ip.parse("198.51.100.1"), port: 7952, peer: nodeId(9) };
  const link = new ControllerLink(
    new ControlClient(channel, () => address),
    {
      revision: () => (came.length > 0 && !leadsNowhere ? 8 : 7),
      isController: () => isHere,
      takes: () => takes,
      isNewest: (revision) => newest.push(revision),
      lacksWhole: () => isLacking,
      came: async (state) => {
        came.push(state);
        return !leadsNowhere;
      },
    },
    silentLog,
  );
  const ask = () => link.request({ v: 1, kind: "removeNetwork", network: app.id }, "done");
  return {
    link,
    ask,
    asked,
    came,
    watches: () => watches,
    cut: () => cut(),
    takes,
    newest,
    hears: (answer: ControlAnswer) => heard(encodeCbor(answer)),
    lacks: (is: boolean) => {
      isLacking = is;
      link.stateChanged();
    },
    cameFor: (nothing: boolean) => (leadsNowhere = nothing),
    moves: (to: "here" | "away") => {
      isHere = to === "here";
      link.stateChanged();
    },
    answers: (next: ControlAnswer | undefined) => (answer = next),
  };
}

test("a request says what this host holds, and its answer's state is merged", async () => {
  const { ask, asked, came, takes } = linked();
  await ask();
  expect(asked).toEqual([{ v: 1, kind: "removeNetwork", network: app.id, holds: 7, takes }]);
  expect(came).toEqual([signed]);
});

test("what leads nowhere from what is held is asked for again, all of it", async () => {
  const { ask, asked, cameFor, answers, came } = linked();
  cameFor(true);
  const answering = ask();
  answers({ v: 1, kind: "state", state: signed });
  await answering;
  expect(asked.at(-1)).toEqual({ v: 1, kind: "state", revision: 7, takes: {} });
  expect(came).toEqual([signed, signed]);
});

test("what the watch tells is asked for if it is newer; a controller of 0.1.0 tells the state itself", async () => {
  const { link, asked, came, hears, takes, answers, newest } = linked();
  link.start();
  answers({ v: 1, kind: "state" });
  // With its first word it is asked in any case, and knows by that what hosts take.
  hears({ v: 1, kind: "news", revision: 7 });
  await vi.waitFor(() => expect(newest).toEqual([7]), PATIENT);
  answers({ v: 1, kind: "state", state: signed });
  hears({ v: 1, kind: "news", revision: 7 });
  hears({ v: 1, kind: "news", revision: 8 });
  await vi.waitFor(() => expect(came).toEqual([signed]), PATIENT);
  expect(asked).toEqual([1, 2].map(() => ({ v: 1, kind: "state", revision: 7, takes })));
  hears({ v: 1, kind: "state", state: signed });
  await vi.waitFor(() => expect(came).toEqual([signed, signed]), PATIENT);
  await link.stop();
});

test("the state whole, which a host of 0.1.0 needs, is asked for once, and only beside the controller", async () => {
  const { link, asked, moves, lacks, takes, answers } = linked();
  answers({ v: 1, kind: "state" });
  link.start();
  moves("away");
  lacks(true);
  expect(asked).toEqual([]);
  moves("here");
  lacks(true);
  await vi.waitFor(
    () => expect(asked).toEqual([{ v: 1, kind: "state", revision: 0, takes }]),
    PATIENT,
  );
  await link.stop();
});

test("why the controller decided nothing is kept until it decides again", async () => {
  const { link, ask, answers } = linked();
  expect(link.failure()).toBeUndefined();
  answers(refused("STALE"));
  await expect(ask()).rejects.toMatchObject({ code: "STALE" });
  expect(link.failure()?.message).toBe("it is STALE");
  answers(undefined);
  await expect(ask()).rejects.toMatchObject({ code: "UNREACHABLE" });
  expect(link.failure()?.message).toMatch(/does not answer: nobody there/);
  // It decided, though not as was asked.
  answers(refused("FORBIDDEN"));
  await expect(ask()).rejects.toMatchObject({ code: "FORBIDDEN" });
  expect(link.failure()).toBeUndefined();
  answers(refused("STALE"));
  await expect(ask()).rejects.toMatchObject({ code: "STALE" });
  answers(done);
  await ask();
  expect(link.failure()).toBeUndefined();
});

test("one that was away is asked again until it is back, whoever was asking; one that answers is not", async () => {
  const { link, ask, asked, answers } = linked();
  link.check();
  expect(asked).toEqual([]);
  answers(undefined);
  await expect(link.refresh()).rejects.toMatchObject({ code: "UNREACHABLE" });
  expect(link.failure()?.next).toMatch(/systemctl status overlay-ts-controller/);
  await expect(ask()).rejects.toMatchObject({ code: "UNREACHABLE" });
  answers({ v: 1, kind: "state" });
  link.check();
  link.check();
  await vi.waitFor(() => expect(link.failure()).toBeUndefined(), PATIENT);
  expect(asked.map(({ kind }) => kind)).toEqual(["state", "removeNetwork", "state"]);
});

test("on its own host a controller that ends is known to be away, though nobody asks it anything", async () => {
  const { link, answers, cut } = linked();
  link.start();
  answers(undefined);
  cut();
  const away = /does not answer: nobody there/;
  await vi.waitFor(() => expect(link.failure()?.message).toMatch(away), PATIENT);
  answers({ v: 1, kind: "state" });
  cut();
  await vi.waitFor(() => expect(link.failure()).toBeUndefined(), PATIENT);
  await link.stop();
});

test("it is watched while it is here, when it comes, and again when it comes back", async () => {
  const { link, watches, moves } = linked();
  moves("here");
  expect(watches(), "before the start").toBe(0);
  moves("away");
  link.start();
  for (const [to, times] of [
    ["away", 0],
    ["here", 1],
    ["here", 1],
    ["away", 1],
    ["here", 2],
  ] as const) {
    moves(to);
    expect(watches()).toBe(times);
  }
  await link.stop();
  moves("here");
  expect(watches(), "after the end").toBe(2);
});
