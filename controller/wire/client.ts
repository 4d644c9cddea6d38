import { BOUNDS } from "../../shared/bounds.ts";
import { decodeCbor, encodeCbor } from "../../shared/codec.ts";
import { DEFAULT_PORTS, type SignedState } from "../../shared/cluster-state.ts";
import { asFailure, ERROR_CODES, OverlayError } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";
import { askPort, portSaid } from "../../shared/node/tcp-port.ts";
import { oneLine } from "../../shared/text.ts";
import type { ControlChannel, ControllerAddress } from "./channel.ts";
import { channelFailure, rootCause } from "./channel-failure.ts";
import { type AnswerOf, ControlAnswer, type ControlRequest } from "./messages.ts";
import { unanswered } from "./unanswered.ts";

/** For an answer, when whoever asks has no reason to wait longer. */
export const ANSWER_TIMEOUT_MS = 5_000;

/** What comes to who watches. */
export type News = { readonly revision: number } | { readonly state: SignedState };

/** A host's side of the controller's port: requests and answers of their types. */
export class ControlClient {
  readonly #channel: ControlChannel;
  readonly #address: () => ControllerAddress;
  readonly #timeoutMs: number;
  readonly #askPort: typeof askPort;

  /** `address` is asked at each request: the controller may move. */
  constructor(
    channel: ControlChannel,
    address: () => ControllerAddress,
    timeoutMs = ANSWER_TIMEOUT_MS,
    ask = askPort,
  ) {
    this.#channel = channel;
    this.#address = address;
    this.#timeoutMs = timeoutMs;
    this.#askPort = ask;
  }

  /**
   * @throws UNREACHABLE when nobody answers; TIMEOUT when its port takes connections, and no answer came in time;
   * what the controller refused with its own code and words; UNSUPPORTED for an answer that this version cannot read,
   * or of another kind.
   */
  async request<K extends ControlAnswer["kind"]>(
    request: ControlRequest,
    kind: K,
  ): Promise<{ answer: AnswerOf<K>; controller: NodeId }> {
    const { bytes, peer } = await this.#channel
      .exchange(this.#address(), encodeCbor(request), this.#timeoutMs)
      .catch(async (error: unknown) => {
        throw await this.#unanswered(error);
      });
    const answer = decodeAnswer(bytes);
    if (answer.kind === "failed") throw refusal(answer.failure);
    if (answer.kind !== kind)
      throw new OverlayError({
        code: "UNSUPPORTED",
        message: `the controller answered ${request.kind} with ${answer.kind}`,
        next: "run the same version of overlay-ts on all hosts",
      });
    return { answer: answer as AnswerOf<K>, controller: peer };
  }

  /**
   * Of each new state that there is one, of the newest at once, until `signal` aborts or the connection ends; a controller of
   * 0.1.0 tells the state itself.
   * @throws what the controller refused in its own words, or the connection's end
   */
  async watch(came: (news: News) => void, signal: AbortSignal): Promise<void> {
    const refused = new AbortController();
    let failure: unknown;
    // It is called from wherever the bytes come: what it throws would be nobody's.
    const heard = (bytes: Uint8Array): void => {
      try {
        const answer = decodeAnswer(bytes);
        if (answer.kind === "failed") throw refusal(answer.failure);
        if (answer.kind === "news") came({ revision: answer.revision });
        if (answer.kind === "state" && answer.state !== undefined) came({ state: answer.state });
      } catch (error) {
        failure ??= error;
        refused.abort();
      }
    };
    const until = AbortSignal.any([signal, refused.signal]);
    await this.#channel.watch(this.#address(), heard, until).catch((error: unknown) => {
      failure ??= error;
    });
    if (failure !== undefined) throw failure;
  }

  close(): Promise<void> {
    return this.#channel.close();
  }

  async #unanswered(cause: unknown): Promise<OverlayError> {
    // It answers, and in words that we do not understand.
    if (cause instanceof OverlayError && cause.code === "UNSUPPORTED") return cause;
    const { address, port } = this.#address();
    const failure = channelFailure(cause);
    const { code, errno, op, message } = asFailure(
      failure instanceof OverlayError ? failure : rootCause(failure),
    );
    // libp2p found somebody there, who did not go on in its words.
    if (/noise|negotiate|EncryptionFailed/i.test(`${(rootCause(cause) as Error).name} ${message}`))
      return notTheController(address, port, cause);
    const isSilent = code === "TIMEOUT";
    const refused = portSaid({ code: errno, syscall: op });
    const said = refused ?? (isSilent ? await this.#askPort(address, port) : ANSWERED);
    const why = isSilent ? undefined : message;
    return unanswered({ address, port, said, why, timeoutMs: this.#timeoutMs }, cause);
  }
}

/** It was there, and ended what was asked. */
const ANSWERED = { kind: "accepts" } as const;

function notTheController(address: string, port: number, cause: unknown): OverlayError {
  const isMesh = port === DEFAULT_PORTS.gossip;
  return new OverlayError(
    {
      code: "UNREACHABLE",
      message: `what answers at ${address}:${port}/tcp is not the controller${isMesh ? ": it is the mesh's port" : ""}`,
      next: `leave the port away, or give the controller's, ${DEFAULT_PORTS.controller} unless it was changed`,
    },
    { cause },
  );
}

function decodeAnswer(bytes: Uint8Array): ControlAnswer {
  try {
    return ControlAnswer.parse(decodeCbor(bytes, BOUNDS.controlAnswerBytes));
  } catch (cause) {
    throw new OverlayError(
      {
        code: "UNSUPPORTED",
        message: `this version cannot read the controller's answer: ${oneLine(asFailure(cause).message, 300)}`,
        next: "run the same version of overlay-ts on all hosts",
      },
      { cause },
    );
  }
}

/** While joining it is not known yet who answers: the words go to a terminal on one line, and end. */
const MAX_CHARS = 1000;

/** Of a controller that says no more. */
const ITS_LOG = "see `journalctl -u overlay-ts-controller` on its host";

/** A code of a later version means that the request was refused, and no more. */
function refusal({ code, message, next }: AnswerOf<"failed">["failure"]): OverlayError {
  return new OverlayError({
    code: ERROR_CODES.find((known) => known === code) ?? "INVALID",
    message: oneLine(message, MAX_CHARS),
    next: oneLine(next ?? ITS_LOG, MAX_CHARS),
  });
}
