import { StreamState, YamuxStream } from "@chainsafe/libp2p-yamux/stream";
import { expect, test } from "vitest";
import { openWindowByHalves } from "../../../agent/replication/gossip/window-updates.ts";

const WINDOW_BYTES = 256 * 1024;
const FRAME = { data: 0, windowUpdate: 1 } as const;
const silent = Object.assign(() => {}, { trace() {}, error() {}, enabled: false });

/** A stream that was opened, and what it sends. */
function opened() {
  const updates: number[] = [];
  const stream = new YamuxStream({
    id: "1",
    streamId: 1,
    state: StreamState.Established,
    direction: "inbound",
    protocol: "/test",
    initialStreamWindowSize: WINDOW_BYTES,
    maxStreamWindowSize: WINDOW_BYTES,
    sendFrame: ({ type, length }: { type: number; length: number }) => {
      if (type === FRAME.windowUpdate) updates.push(length);
      return true;
    },
    getRTT: () => 0,
    log: Object.assign(() => {}, {
      trace() {},
      error() {},
      enabled: false,
      newScope: () => silent,
    }),
  } as unknown as ConstructorParameters<typeof YamuxStream>[0]);
  stream.addEventListener("message", () => {});
  const receive = (length: number): void =>
    stream.handleData({
      type: "frame",
      header: { type: FRAME.data, flag: 0, streamID: 1, length },
      data: new Uint8Array(length),
    } as unknown as Parameters<YamuxStream["handleData"]>[0]);
  return { stream, updates, receive };
}

test("small questions and answers are not acknowledged one by one", () => {
  const { stream, updates, receive } = opened();
  openWindowByHalves(stream);
  for (let i = 0; i < 1000; i++) receive(100);
  expect(updates).toEqual([]);
});

test("whoever sends much may always go on: half of the window is free", () => {
  const { stream, updates, receive } = opened();
  openWindowByHalves(stream);
  let left = WINDOW_BYTES;
  for (let i = 0; i < 100; i++) {
    receive(32 * 1024);
    left += updates.splice(0).reduce((sum, length) => sum + length, 0) - 32 * 1024;
    expect(left).toBeGreaterThan(WINDOW_BYTES / 2 - 1);
  }
});
