import { OverlayError } from "../../../shared/errors.ts";
import type { NodeId } from "../../../shared/ids.ts";
import type { KeyChannel } from "./port.ts";
import { AnswerKey, sealAnswer } from "./sealed-answer.ts";

const PUBLIC_KEY_BYTES = 32;

type Answering = (from: NodeId, bytes: Uint8Array) => Promise<Uint8Array>;
type Asking = (to: NodeId, bytes: Uint8Array, timeoutMs: number) => Promise<Uint8Array>;

/**
 * Questions about keys over the mesh, whose connections prove who is at the other end but live for days:
 * each answer is sealed for its question. Asked is a public key, then the question.
 */
export class MeshKeyChannel implements KeyChannel {
  readonly #ask: Asking;
  #answering: Answering | undefined;

  constructor(ask: Asking) {
    this.#ask = ask;
  }

  async request(to: NodeId, bytes: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    const once = new AnswerKey();
    const asked = new Uint8Array(PUBLIC_KEY_BYTES + bytes.length);
    asked.set(once.publicKey);
    asked.set(bytes, PUBLIC_KEY_BYTES);
    return once.open(await this.#ask(to, asked, timeoutMs));
  }

  serve(answering: Answering): void {
    this.#answering = answering;
  }

  /** What came over the mesh. @throws UNSUPPORTED while this host is not in the class. */
  async asked(from: NodeId, bytes: Uint8Array): Promise<Uint8Array> {
    if (this.#answering === undefined)
      throw new OverlayError({
        code: "UNSUPPORTED",
        message: "this host has no IPsec keys to give",
      });
    const answer = await this.#answering(from, bytes.subarray(PUBLIC_KEY_BYTES));
    return sealAnswer(bytes.subarray(0, PUBLIC_KEY_BYTES), answer);
  }
}
