import { answerRequest } from "../../controller/wire/answer.ts";
import type { ControlChannel, ControllerAddress } from "../../controller/wire/channel.ts";
import type { Controller } from "../../controller/controller.ts";
import { encodeCbor } from "../../shared/codec.ts";
import type { NodeId } from "../../shared/ids.ts";

/** A host's line to a controller in the same process, in the bytes of the real one. */
export class MemoryControl implements ControlChannel {
  readonly #self: NodeId;
  readonly #controller: Controller;
  readonly #controllerNode: NodeId;
  #gate: Promise<void> = Promise.resolve();

  constructor(self: NodeId, controller: Controller, controllerNode: NodeId) {
    this.#self = self;
    this.#controller = controller;
    this.#controllerNode = controllerNode;
  }

  /** Requests wait from now on, until the returned function is called. */
  hold(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#gate = promise;
    return resolve;
  }

  async exchange(
    _to: ControllerAddress,
    request: Uint8Array,
  ): Promise<{ bytes: Uint8Array; peer: NodeId }> {
    await this.#gate;
    const bytes = await answerRequest(this.#controller, this.#self, request);
    return { bytes, peer: this.#controllerNode };
  }

  async watch(
    _to: ControllerAddress,
    heard: (bytes: Uint8Array) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const tell = async (): Promise<void> =>
      heard(encodeCbor(await this.#controller.news(this.#self)));
    const stop = this.#controller.onState(() => void tell());
    await tell();
    if (!signal.aborted)
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    stop();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
