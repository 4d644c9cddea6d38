import type { ControlChannel, ControllerAddress } from "../../controller/wire/channel.ts";

/**
 * A line to the controller that counts what this host says and hears there: messages, and bytes of their payload; what
 * comes on the watch stream as well.
 */
export class CountedControl implements ControlChannel {
  readonly #channel: ControlChannel;
  readonly #counts = {
    controllerIn: 0,
    controllerInBytes: 0,
    controllerOut: 0,
    controllerOutBytes: 0,
  };

  constructor(channel: ControlChannel) {
    this.#channel = channel;
  }

  counts(): Readonly<Record<string, number>> {
    return { ...this.#counts };
  }

  async exchange(
    to: ControllerAddress,
    request: Uint8Array,
    timeoutMs: number,
  ): ReturnType<ControlChannel["exchange"]> {
    this.#counts.controllerOut++;
    this.#counts.controllerOutBytes += request.length;
    const answer = await this.#channel.exchange(to, request, timeoutMs);
    this.#came(answer.bytes);
    return answer;
  }

  watch(
    to: ControllerAddress,
    heard: (bytes: Uint8Array) => void,
    signal: AbortSignal,
  ): Promise<void> {
    return this.#channel.watch(
      to,
      (bytes) => {
        this.#came(bytes);
        heard(bytes);
      },
      signal,
    );
  }

  close(): Promise<void> {
    return this.#channel.close();
  }

  #came({ length }: Uint8Array): void {
    this.#counts.controllerIn++;
    this.#counts.controllerInBytes += length;
  }
}
