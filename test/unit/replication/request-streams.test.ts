import { describe, expect, test } from "vitest";
import { type Asking, RequestStreams } from "../../../agent/replication/gossip/request-streams.ts";
import { nodeId } from "../../support/cluster.ts";

const PEER = nodeId(2);
const QUESTION = new Uint8Array([1]);
const ANSWER = new Uint8Array([2]);
const stream: Asking = { request: async () => ANSWER };

/** What was opened, each answered by hand. */
function openings(openTimeoutMs?: number) {
  const opened: (PromiseWithResolvers<Asking> & { signal: AbortSignal; ended: () => void })[] = [];
  const streams = new RequestStreams((_to, signal, ended) => {
    const opening = { ...Promise.withResolvers<Asking>(), signal, ended };
    opened.push(opening);
    return opening.promise;
  }, openTimeoutMs);
  return { opened, streams };
}

describe("one stream a peer", () => {
  test("a question that cannot wait ends by itself, and the opening goes on for the next", async () => {
    const { opened, streams } = openings();
    for (let i = 0; i < 3; i++)
      await expect(streams.request(PEER, QUESTION, 5)).rejects.toMatchObject({ code: "TIMEOUT" });
    expect(opened.length).toBe(1);
    expect(opened[0]?.signal.aborted).toBe(false);
    opened[0]?.resolve(stream);
    expect(await streams.request(PEER, QUESTION, 1000)).toEqual(ANSWER);
    expect(opened.length).toBe(1);
  });

  test("an opening that nobody ends is given up, also where its signal is not looked at", async () => {
    const { opened, streams } = openings(20);
    await expect(streams.request(PEER, QUESTION, 1000)).rejects.toMatchObject({ code: "TIMEOUT" });
    const next = streams.request(PEER, QUESTION, 1000);
    opened[1]?.resolve(stream);
    expect(await next).toEqual(ANSWER);
    expect(opened[0]?.signal.aborted).toBe(true);
  });

  test("one that was refused or has ended is opened again with the next question", async () => {
    const { opened, streams } = openings();
    const first = streams.request(PEER, QUESTION, 1000);
    opened[0]?.reject(new Error("not connected"));
    await expect(first).rejects.toThrow("not connected");
    const second = streams.request(PEER, QUESTION, 1000);
    opened[1]?.resolve(stream);
    expect(await second).toEqual(ANSWER);
    // Of one that is not in use any more it means nothing.
    opened[0]?.ended();
    expect(await streams.request(PEER, QUESTION, 1000)).toEqual(ANSWER);
    opened[1]?.ended();
    const third = streams.request(PEER, QUESTION, 1000);
    expect(opened.length).toBe(3);
    opened[2]?.resolve(stream);
    expect(await third).toEqual(ANSWER);
  });

  test("peers have streams of their own", async () => {
    const { opened, streams } = openings();
    const questions = [PEER, nodeId(3)].map((to) => streams.request(to, QUESTION, 1000));
    for (const { resolve } of opened) resolve(stream);
    expect(await Promise.all(questions)).toEqual([ANSWER, ANSWER]);
    expect(opened.length).toBe(2);
  });
});
