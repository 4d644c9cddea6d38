/** Key material. It prints as nothing: not by JSON, not by the logger, not in an error's text. */
export class Secret {
  readonly #bytes: Buffer;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes);
  }

  /** For the kernel, and nobody else. */
  reveal(): Buffer {
    return this.#bytes;
  }
}
