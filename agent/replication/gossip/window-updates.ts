import type { Stream } from "@libp2p/interface";
import { StreamState } from "@chainsafe/libp2p-yamux/stream";
import { assert } from "../../../shared/errors.ts";

/** Private in YamuxStream (stream.ts of libp2p-yamux). */
interface Windowed {
  readonly state: StreamState;
  /** Of a full window, and of what the other side may still send: bytes. */
  readonly recvWindow: number;
  readonly recvWindowCapacity: number;
  sendWindowUpdate(): void;
}

/**
 * The other side may go on when half of the window is used, as in other Yamux: libp2p's says so after each frame, which is
 * a packet back, and a wake-up there, for each small question and each answer.
 */
export function openWindowByHalves(stream: Stream): void {
  const windowed = stream as unknown as Windowed;
  assert(typeof windowed.sendWindowUpdate === "function", "a Yamux stream has a window");
  const send = windowed.sendWindowUpdate.bind(stream);
  windowed.sendWindowUpdate = () => {
    const usedBytes = windowed.recvWindow - windowed.recvWindowCapacity;
    // In any other state it says more than that: that the stream is taken, or that nothing is read.
    if (windowed.state !== StreamState.Established || usedBytes * 2 >= windowed.recvWindow) send();
  };
}
