import { closeSync, openSync } from "node:fs";

/**
 * Descriptors with low numbers, kept back for who can use no others: the kernel gives the lowest that
 * is free, and a host of hundreds of networks has all of them in use.
 */

const RESERVED = 8;
const NONE = 0;

let reserved: Int32Array = new Int32Array(RESERVED);

/** Memory that outlives a thread, so that the next one has what this one kept. */
export function reserveMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT * RESERVED);
}

/** Once in a thread that is not the only one of the process to do this. */
export function reserveIn(memory: SharedArrayBuffer): void {
  reserved = new Int32Array(memory);
}

/** Fills up what is kept back, as far as there are any up to `highest`. */
export function reserveBelow(highest: number): void {
  for (const [i, held] of reserved.entries()) {
    if (held !== NONE) continue;
    const fd = openSync("/dev/null", "r");
    if (fd > highest) {
      closeSync(fd);
      return;
    }
    reserved[i] = fd;
  }
}

/** @returns whether the next descriptor is up to `highest`, unless another thread is faster. */
export function makeRoomBelow(highest: number): boolean {
  const lowest = openSync("/dev/null", "r");
  closeSync(lowest);
  if (lowest <= highest) return true;
  const i = reserved.findIndex((held) => held !== NONE);
  const fd = reserved[i];
  if (fd === undefined) return false;
  reserved[i] = NONE;
  closeSync(fd);
  return true;
}
