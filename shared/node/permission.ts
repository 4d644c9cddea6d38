import { OverlayError } from "../errors.ts";

/** What agent, controller and commands keep and serve is root's: who is somebody else is told so, and nothing else. */
export function permissionDenied(what: string, cause?: unknown): OverlayError {
  return new OverlayError(
    {
      code: "NOT_ROOT",
      message: `permission denied: ${what}`,
      next: "run it as root: `sudo overlay-ts …`",
    },
    { cause },
  );
}
