import { OverlayError } from "../../../shared/errors.ts";
import type { Request, RtNetlink } from "./socket.ts";

/** Deleting what does not exist counts as success. */

/** Links: the kernel needs milliseconds for each. */
export async function deleteOneByOne(
  socket: RtNetlink,
  requests: readonly Request[],
): Promise<void> {
  for (const request of requests)
    try {
      await socket.request(request);
    } catch (error) {
      const already =
        error instanceof OverlayError && ["ENOENT", "ENODEV"].includes(error.errno ?? "");
      if (!already) throw error;
    }
}

/** Entries: the kernel needs some microseconds for each. */
export async function deleteAtOnce(socket: RtNetlink, requests: readonly Request[]): Promise<void> {
  try {
    await socket.batch(requests);
  } catch {
    // A batch tells its first failure only, and that may be one that is as wanted.
    await deleteOneByOne(socket, requests);
  }
}
