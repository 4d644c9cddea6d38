/**
 * What loading a program left behind, several megabytes of a thread's heap, goes back to the system:
 * once, when the start is over. It stops this thread for some tens of milliseconds. Without
 * `--expose-gc` nothing happens.
 */
export function giveBackMemory(): void {
  globalThis.gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
}
