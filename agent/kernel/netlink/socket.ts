import { constants } from "node:os";
import { RawNetlinkSocket } from "netlink";
import { asFailure, OverlayError } from "../../../shared/errors.ts";
import { inNetns } from "../netns.ts";
import { decodeFrames, encodeFrame, type NetlinkMessage } from "./codec.ts";

const NETLINK_ROUTE = 0;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_DUMP = 0x300;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
/** Messages in one send: well below the socket's buffer, far above what a call costs. */
const BATCH = 256;
const ANSWER_TIMEOUT_MS = 10_000;

export interface Request {
  /** For errors: `RTM_NEWNEIGH 02:42:…`. */
  readonly op: string;
  readonly type: number;
  /** NLM_F_CREATE, NLM_F_REPLACE, …; request and ack are added. */
  readonly flags: number;
  readonly parts: Buffer[];
}

interface Pending {
  readonly op: string;
  readonly messages: NetlinkMessage[];
  readonly done: (error: OverlayError | undefined) => void;
}

/** One rtnetlink socket of one namespace (rtnetlink(7)). Made in the namespace, it stays there. */
export class RtNetlink {
  readonly #socket: RawNetlinkSocket;
  readonly #pending = new Map<number, Pending>();
  #seq = 0;

  constructor(netns: string | undefined) {
    this.#socket = inNetns(
      netns,
      () =>
        new RawNetlinkSocket(NETLINK_ROUTE, { recvBufferSize: 4 << 20, sendBufferSize: 1 << 20 }),
    );
    this.#socket.on("message", (datagram) => this.#receive(datagram));
    this.#socket.on("error", (error) => this.#failAll(error));
  }

  /** Resolves on the kernel's acknowledgement. */
  async request(request: Request): Promise<void> {
    await this.batch([request]);
  }

  /** In order; every error is read; rejects with the first, after all were carried out. */
  async batch(requests: readonly Request[]): Promise<void> {
    let first: OverlayError | undefined;
    for (let at = 0; at < requests.length; at += BATCH) {
      const frames: Buffer[] = [];
      const answers = requests.slice(at, at + BATCH).map((request) => {
        const { answer, frame } = this.#prepare(request, NLM_F_ACK);
        frames.push(frame);
        return answer;
      });
      this.#socket.send(frames, {}, (error) => {
        if (error !== undefined && error !== null) this.#failAll(error);
      });
      for (const { error } of await Promise.all(answers)) first ??= error;
    }
    if (first !== undefined) throw first;
  }

  async dump(request: Request): Promise<NetlinkMessage[]> {
    const { answer, frame } = this.#prepare(request, NLM_F_DUMP);
    this.#socket.send(frame);
    const { error, messages } = await answer;
    if (error !== undefined) throw error;
    return messages;
  }

  close(): void {
    this.#failAll(new Error("the socket was closed"));
    this.#socket.close();
  }

  #prepare({ op, type, flags, parts }: Request, extra: number) {
    const seq = (this.#seq = (this.#seq + 1) >>> 0);
    const messages: NetlinkMessage[] = [];
    const answer = new Promise<{ error: OverlayError | undefined; messages: NetlinkMessage[] }>(
      (resolve) => {
        const timer = setTimeout(
          () =>
            this.#settle(
              seq,
              new OverlayError({
                code: "TIMEOUT",
                op,
                message: `the kernel does not answer ${op}`,
              }),
            ),
          ANSWER_TIMEOUT_MS,
        );
        const done = (error: OverlayError | undefined): void => {
          clearTimeout(timer);
          resolve({ error, messages });
        };
        this.#pending.set(seq, { op, messages, done });
      },
    );
    return { answer, frame: encodeFrame(type, NLM_F_REQUEST | extra | flags, seq, ...parts) };
  }

  #receive(datagram: Buffer): void {
    for (const message of decodeFrames(datagram)) {
      const pending = this.#pending.get(message.seq);
      if (pending === undefined) continue;
      if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
        const code = message.payload.length >= 4 ? -message.payload.readInt32LE(0) : 0;
        this.#settle(message.seq, code === 0 ? undefined : kernelError(pending.op, code));
      } else pending.messages.push({ ...message, payload: Buffer.from(message.payload) });
    }
  }

  #settle(seq: number, error: OverlayError | undefined): void {
    const pending = this.#pending.get(seq);
    this.#pending.delete(seq);
    pending?.done(error);
  }

  #failAll(cause: unknown): void {
    for (const [seq, { op }] of this.#pending)
      this.#settle(
        seq,
        new OverlayError(
          { code: "NETLINK", op, message: `${op}: ${asFailure(cause).message}` },
          { cause },
        ),
      );
  }
}

function kernelError(op: string, code: number): OverlayError {
  const errno =
    Object.entries(constants.errno).find(([, value]) => value === code)?.[0] ?? String(code);
  return new OverlayError({
    code: "NETLINK",
    op,
    errno,
    message: `the kernel refused ${op}: ${errno}`,
  });
}
