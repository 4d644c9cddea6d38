import type { RawNetlinkSocket } from "netlink";
import { decodeFrames } from "./netlink/codec.ts";
import { openRouteSocket } from "./netlink/raw-socket.ts";
import { isLoss, RTNLGRP } from "./netlink/route.ts";

/** What the kernel still tells of our own writes after they were answered. */
const ECHO_MS = 50;

/**
 * Losses in a namespace of ours that we did not cause: a link deleted or set down, an entry, an address,
 * a route or a rule deleted. While we write, and just after, nothing is reported: the periodic resync covers that.
 */
export class Watch {
  readonly #socket: RawNetlinkSocket;
  readonly #report: () => void;
  #writing = 0;
  #quietUntilMs = 0;

  constructor(netns: string, report: () => void) {
    this.#report = report;
    this.#socket = openRouteSocket(netns, Object.values(RTNLGRP));
    this.#socket.on("message", (datagram) => {
      // Thrown through the native callback an error would end the process.
      try {
        if (!this.#quiet() && decodeFrames(datagram).some(isLoss)) this.#report();
      } catch {
        this.#report();
      }
    });
    this.#socket.on("error", () => this.#report());
  }

  pause(): void {
    this.#writing++;
  }

  resume(): void {
    this.#writing--;
    this.#quietUntilMs = performance.now() + ECHO_MS;
  }

  close(): void {
    this.#socket.close();
  }

  #quiet(): boolean {
    return this.#writing > 0 || performance.now() < this.#quietUntilMs;
  }
}
