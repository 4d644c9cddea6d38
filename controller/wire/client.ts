import { lpStream } from "@libp2p/utils";
import { peerIdFromString } from "@libp2p/peer-id";
import { multiaddr } from "@multiformats/multiaddr";
import type { Connection, Stream } from "@libp2p/interface";
import type { Libp2p } from "libp2p";
import { BOUNDS } from "../../shared/bounds.ts";
import { decodeCbor, encodeCbor } from "../../shared/codec.ts";
import type { SignedState } from "../../shared/cluster-state.ts";
import { asFailure, type ErrorCode, OverlayError } from "../../shared/errors.ts";
import type { NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import { CONTROL_PROTOCOL, controlNode, WATCH_PROTOCOL } from "./libp2p-node.ts";
import { type AnswerOf, ControlAnswer, type ControlRequest } from "./messages.ts";

export interface ControllerAddress {
  readonly address: Ip;
  readonly port: number;
  /** Undefined only while joining: then the token pins the cluster's root key. */
  readonly peer: NodeId | undefined;
}

const TIMEOUT_MS = 5_000;

/** A host's side of the controller's port. Dials when needed; the connection is kept and redialled. */
export class ControlClient {
  readonly #seed: Uint8Array;
  readonly #address: () => ControllerAddress;
  #node: Promise<Libp2p> | undefined;

  /** `address` is asked at each dial: the controller may move. */
  constructor(seed: Uint8Array, address: () => ControllerAddress) {
    this.#seed = seed;
    this.#address = address;
  }

  /**
   * @throws UNREACHABLE when nobody answers, what the controller refused with its own code and words,
   * INTERNAL for an answer of another kind.
   */
  async request<K extends ControlAnswer["kind"]>(
    request: ControlRequest,
    kind: K,
  ): Promise<{ answer: AnswerOf<K>; controller: NodeId }> {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const { bytes, peer } = await this.#exchange(encodeCbor(request), signal);
    const answer = decodeAnswer(bytes);
    if (answer.kind === "failed") throw refusal(answer.failure);
    if (answer.kind !== kind)
      throw new OverlayError({
        code: "INTERNAL",
        message: `the controller answered ${request.kind} with ${answer.kind}`,
        next: "run the same version of overlay-ts on all hosts",
      });
    return { answer: answer as AnswerOf<K>, controller: peer };
  }

  /** Each new state until `signal` aborts or the connection ends; the newest comes at once. */
  async *watch(signal: AbortSignal): AsyncGenerator<SignedState> {
    const connection = await this.#connect(
      AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    );
    const stream = await connection.newStream(WATCH_PROTOCOL, { signal });
    try {
      const framed = lpStream(stream, { maxDataLength: BOUNDS.stateBytes * 2 });
      for (;;) {
        const answer = decodeAnswer((await framed.read({ signal })).subarray());
        if (answer.kind === "failed") throw refusal(answer.failure);
        if (answer.kind === "state" && answer.state !== undefined) yield answer.state;
      }
    } finally {
      stream.abort(new Error("no longer watched"));
    }
  }

  async stop(): Promise<void> {
    await (await this.#node)?.stop();
  }

  async #exchange(
    request: Uint8Array,
    signal: AbortSignal,
  ): Promise<{ bytes: Uint8Array; peer: NodeId }> {
    let stream: Stream | undefined;
    try {
      const connection = await this.#connect(signal);
      stream = await connection.newStream(CONTROL_PROTOCOL, { signal });
      const framed = lpStream(stream, { maxDataLength: BOUNDS.stateBytes * 2 });
      await framed.write(request, { signal });
      const bytes = (await framed.read({ signal })).subarray();
      await stream.close({ signal });
      return { bytes, peer: connection.remotePeer.toString() as NodeId };
    } catch (error) {
      stream?.abort(error as Error);
      throw this.#unreachable(error);
    }
  }

  async #connect(signal: AbortSignal): Promise<Connection> {
    const { address, port, peer } = this.#address();
    this.#node ??= controlNode(this.#seed, []);
    const node = await this.#node;
    const open = peer === undefined ? undefined : node.getConnections(peerIdFromString(peer))[0];
    if (open?.status === "open") return open;
    const family = address.includes(":") ? "ip6" : "ip4";
    const suffix = peer === undefined ? "" : `/p2p/${peer}`;
    return node.dial(multiaddr(`/${family}/${address}/tcp/${port}${suffix}`), { signal });
  }

  #unreachable(cause: unknown): OverlayError {
    const { address, port } = this.#address();
    return new OverlayError(
      {
        code: "UNREACHABLE",
        message: `the controller at ${address}:${port}/tcp does not answer: ${rootCause(cause)}`,
        next: "check that it runs (`systemctl status overlay-ts-controller` there) and that the port is open",
      },
      { cause },
    );
  }
}

function decodeAnswer(bytes: Uint8Array): ControlAnswer {
  return ControlAnswer.parse(decodeCbor(bytes, BOUNDS.stateBytes * 2));
}

function refusal({ code, message, next }: AnswerOf<"failed">["failure"]): OverlayError {
  return new OverlayError({
    code: code as ErrorCode,
    message,
    ...(next === undefined ? {} : { next }),
  });
}

/** libp2p wraps: the innermost reason is the one a person can use. */
function rootCause(error: unknown): string {
  let at = error;
  for (let depth = 0; depth < 5; depth++) {
    const inner = at instanceof AggregateError ? (at.errors[0] as unknown) : (at as Error).cause;
    if (inner === undefined) break;
    at = inner;
  }
  return asFailure(at).message;
}
