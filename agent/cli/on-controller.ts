import { asFailure, OverlayError } from "../../shared/errors.ts";
import { NotServed } from "../../shared/node/unix-http.ts";
import { callController, type Context } from "./context.ts";

export const NO_CONTROLLER_RUNS =
  "the controller does not run, and the hosts hear it when it does: `systemctl start overlay-ts-controller`";

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

/**
 * After a change of the record beside a controller that may run: it tells the hosts. False: none runs here, and it
 * reads the record when it starts. @throws why one that runs does not tell them
 */
export async function announced(context: Context): Promise<boolean> {
  try {
    await callController(context, "POST", "/v1/announce");
    return true;
  } catch (cause) {
    if (cause instanceof NotServed) return false;
    const failure = asFailure(cause);
    throw new OverlayError(
      {
        ...failure,
        message: `it is changed and signed here, and the controller that runs does not tell it: ${failure.message}`,
      },
      { cause },
    );
  }
}
