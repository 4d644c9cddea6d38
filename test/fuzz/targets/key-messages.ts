import { decodeKeyAnswer, decodeKeyRequest } from "../../../agent/core/keys/ipsec-messages.ts";
import { AnswerKey, sealAnswer } from "../../../agent/encryption/ipsec/sealed-answer.ts";
import { recordings } from "../../fixtures/recordings.ts";
import { hold, refusing, type Target } from "../target.ts";

/** What two hosts say to each other about keys. */
export async function keyMessages(): Promise<Target> {
  const { keyRequest, keyAnswer } = await recordings();
  return {
    decoder: "decodeKeyRequest, decodeKeyAnswer",
    recorded: [...Object.values(keyRequest), ...Object.values(keyAnswer)],
    form: "cbor",
    feed: (input) => {
      const asked = refusing(() => decodeKeyRequest(input));
      const answered = refusing(() => decodeKeyAnswer(input));
      hold(asked !== undefined || answered !== undefined, "a question that is an answer too");
      return asked === undefined ? undefined : answered;
    },
  };
}

/** An answer in its seal. */
export function sealedAnswer(): Promise<Target> {
  const key = new AnswerKey();
  const message = new Uint8Array(60).fill(5);
  return Promise.resolve({
    decoder: "AnswerKey.open",
    recorded: [message],
    // Sealed to that key: the seal is random each time, its bytes are not.
    dress: (input) => sealAnswer(key.publicKey, input),
    feed: (input) => refusing(() => key.open(input)),
  });
}
