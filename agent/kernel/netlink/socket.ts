import type { RawNetlinkSocket } from "netlink";
import { asFailure, OverlayError } from "../../../shared/errors.ts";
import { decodeFrames, encodeFrame, type NetlinkMessage } from "./codec.ts";
import { errnoName, refusedByKernel } from "../errno.ts";
import { NETLINK, type NetlinkFamily, openNetlinkSocket } from "./raw-socket.ts";

const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_DUMP = 0x300;
const NLM_F_DUMP_INTR = 0x10;
const DUMP_ATTEMPTS = 5;
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

/** Requests that were sent together and are not all answered yet. */
interface Pending {
  readonly requests: readonly Request[];
  readonly firstSeq: number;
  readonly lastSeq: number;
  /** Where a dump's messages go. */
  readonly messages: NetlinkMessage[] | undefined;
  readonly timer: NodeJS.Timeout;
  readonly resolve: (error: OverlayError | undefined) => void;
  error?: OverlayError;
}

/** One netlink socket of one family and namespace. Made in the namespace, it stays there. */
export class Netlink {
  readonly #socket: RawNetlinkSocket;
  readonly #pending = new Set<Pending>();
  #lastSeq = 0;
  #dumping: Promise<void> = Promise.resolve();

  constructor(netns: string | undefined, family: NetlinkFamily) {
    this.#socket = openNetlinkSocket(netns, family);
    this.#socket.on("message", (datagram) => {
      // Thrown through the native callback an error would end the process.
      try {
        this.#receive(datagram);
      } catch (error) {
        this.#failAll(error);
      }
    });
    this.#socket.on("error", (error) => this.#failAll(error));
  }

  /** Resolves on the kernel's acknowledgement. */
  async request(request: Request): Promise<void> {
    await this.batch([request]);
  }

  /**
   * In order; rejects with the first error, after all were carried out. Only the last of a send is
   * acknowledged: the kernel works through them in order and answers each failure by itself.
   */
  async batch(requests: readonly Request[]): Promise<void> {
    let first: OverlayError | undefined;
    for (let at = 0; at < requests.length; at += BATCH) {
      const error = await this.#send(requests.slice(at, at + BATCH));
      first ??= error;
    }
    if (first !== undefined) throw first;
  }

  /** What the kernel answers for one object. @throws NETLINK, `errno` ENODEV and the like when it is not there */
  async get(request: Request): Promise<NetlinkMessage[]> {
    const messages: NetlinkMessage[] = [];
    const error = await this.#send([request], NLM_F_ACK, messages);
    if (error !== undefined) throw error;
    return messages;
  }

  /** One after another: a socket has one dump at a time, EBUSY else (net/netlink/af_netlink.c). */
  dump(request: Request): Promise<NetlinkMessage[]> {
    const result = this.#dumping.then(() => this.#dump(request));
    this.#dumping = result.then(
      () => {},
      () => {},
    );
    return result;
  }

  /** Again when the kernel says that what it listed changed under its hands. */
  async #dump(request: Request): Promise<NetlinkMessage[]> {
    for (let attempt = 1; ; attempt++) {
      const messages: NetlinkMessage[] = [];
      const error = await this.#send([request], NLM_F_DUMP, messages);
      if (error !== undefined) throw error;
      const interrupted = messages.some(({ flags }) => (flags & NLM_F_DUMP_INTR) !== 0);
      if (!interrupted || attempt === DUMP_ATTEMPTS) return messages;
    }
  }

  close(): void {
    this.#failAll(new Error("the socket was closed"));
    this.#socket.close();
  }

  #send(
    requests: readonly Request[],
    flagsOfLast = NLM_F_ACK,
    messages?: NetlinkMessage[],
  ): Promise<OverlayError | undefined> {
    // 32 bits on the wire; long before they end, what was sent is answered.
    if (this.#lastSeq > 0x7fff_0000) this.#lastSeq = 0;
    const firstSeq = this.#lastSeq + 1;
    const lastSeq = (this.#lastSeq += requests.length);
    const frames = requests.map(({ type, flags, parts }, i) => {
      const extra = i === requests.length - 1 ? flagsOfLast : 0;
      return encodeFrame(type, NLM_F_REQUEST | extra | flags, firstSeq + i, ...parts);
    });
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        const op = requests.at(-1)?.op ?? "";
        this.#settle(
          pending,
          new OverlayError({ code: "TIMEOUT", op, message: `the kernel does not answer ${op}` }),
        );
      }, ANSWER_TIMEOUT_MS);
      const pending: Pending = { requests, firstSeq, lastSeq, messages, timer, resolve };
      this.#pending.add(pending);
      try {
        this.#socket.send(frames, {}, (error) => {
          if (error !== undefined && error !== null) this.#fail(pending, error);
        });
      } catch (error) {
        this.#fail(pending, error);
      }
    });
  }

  #receive(datagram: Buffer): void {
    for (const message of decodeFrames(datagram)) {
      const pending = this.#pendingOf(message.seq);
      if (pending === undefined) continue;
      if (message.type !== NLMSG_ERROR && message.type !== NLMSG_DONE) {
        pending.messages?.push({ ...message, payload: Buffer.from(message.payload) });
        continue;
      }
      const code = message.payload.length >= 4 ? -message.payload.readInt32LE(0) : 0;
      if (code !== 0) {
        const op = pending.requests[message.seq - pending.firstSeq]?.op ?? "";
        pending.error ??= kernelError(op, code);
      }
      if (message.seq === pending.lastSeq) this.#settle(pending, pending.error);
    }
  }

  #pendingOf(seq: number): Pending | undefined {
    for (const pending of this.#pending)
      if (seq >= pending.firstSeq && seq <= pending.lastSeq) return pending;
    return undefined;
  }

  #settle(pending: Pending, error: OverlayError | undefined): void {
    if (!this.#pending.delete(pending)) return;
    clearTimeout(pending.timer);
    pending.resolve(error);
  }

  #fail(pending: Pending, cause: unknown): void {
    const op = pending.requests.at(-1)?.op ?? "";
    const message = `${op}: ${asFailure(cause).message}`;
    this.#settle(pending, new OverlayError({ code: "NETLINK", op, message }, { cause }));
  }

  #failAll(cause: unknown): void {
    for (const pending of this.#pending) this.#fail(pending, cause);
  }
}

/** rtnetlink(7): links, addresses, neighbours. */
export class RtNetlink extends Netlink {
  constructor(netns: string | undefined) {
    super(netns, NETLINK.route);
  }
}

const LACKS = "load what it lacks: `modprobe -a vxlan bridge veth`";

function kernelError(op: string, code: number): OverlayError {
  return refusedByKernel(op, code, errnoName(code) === "EOPNOTSUPP" ? LACKS : undefined);
}
