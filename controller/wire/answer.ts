import { BOUNDS } from "../../shared/bounds.ts";
import { decodeCbor, encodeCbor } from "../../shared/codec.ts";
import { asFailure } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import type { Controller } from "../controller.ts";
import { ControlRequest, type ControlAnswer } from "./messages.ts";

/**
 * A host's request and what it is answered, as bytes. What cannot be read is refused in words: a
 * stream that only ends would look to the host like a controller that is away.
 */
export async function answerRequest(
  controller: Pick<Controller, "handle">,
  from: NodeId,
  bytes: Uint8Array,
  origin?: Ip,
): Promise<Uint8Array> {
  let request: ControlRequest;
  try {
    request = ControlRequest.parse(decodeCbor(bytes, BOUNDS.httpBodyBytes));
  } catch (error) {
    const refused: ControlAnswer = {
      v: 1,
      kind: "failed",
      failure: {
        code: "INVALID",
        message: `the controller cannot read the request: ${asFailure(error).message}`,
        next: "give what it names as it must be; if it is, run the same version on all hosts",
      },
    };
    return encodeCbor(refused);
  }
  return encodeCbor(await controller.handle(from, request, origin));
}
