import { OverlayError } from "../../shared/errors.ts";
import { NotServed } from "../../shared/node/unix-http.ts";

/** @throws UNREACHABLE with where to run the command instead. */
export async function onController<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof NotServed)
      throw new OverlayError(
        {
          code: "UNREACHABLE",
          message: "no controller runs on this host",
          next: "run this on the controller's host (see `overlay-ts node ls`), or start it: `systemctl start overlay-ts-controller`",
        },
        { cause: error },
      );
    throw error;
  }
}
