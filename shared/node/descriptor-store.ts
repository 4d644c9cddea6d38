import { closeSync } from "node:fs";
import { assert } from "../errors.ts";
import type { NotifySocket } from "./notify-socket.ts";
import type { Descriptor } from "./supervision.ts";

/** FileDescriptorStoreMax= of the service: two sockets of each container, for 4,096 of them. */
export const MAX_KEPT = 8192;
/** The manager's queue is short (net.unix.max_dgram_qlen), and it may be busy reading its units again. */
const RETRY_MS = 10;
/** What systemd takes for a name (fdname_is_valid()). */
const NAME = /^[\x20-\x39\x3b-\x7e]{1,255}$/;

interface Message {
  readonly name: string;
  /** Undefined: the manager closes its copies of that name. */
  readonly fd: number | undefined;
}

/**
 * Descriptors that the service manager holds beside us, and hands to the next process of the service:
 * sockets among them go on collecting what comes while there is none (systemd's file descriptor
 * store). They are given up with the service: when it is stopped, not when it is restarted.
 */
export class DescriptorStore {
  /** What came back from the process before: the caller's, open until it closes or releases it. */
  readonly kept: ReadonlyMap<string, number>;
  readonly #socket: Pick<NotifySocket, "sendWith"> | undefined;
  /** What the manager has, once all of `#waiting` is said. */
  readonly #names: Set<string>;
  readonly #waiting: Message[] = [];
  #refused = 0;

  constructor(
    socket: Pick<NotifySocket, "sendWith"> | undefined,
    inherited: readonly Descriptor[],
    close: (fd: number) => void = closeSync,
  ) {
    this.#socket = socket;
    const kept = new Map<string, number>();
    const twice = new Set<string>();
    for (const { name, fd } of inherited) {
      if (!kept.has(name)) kept.set(name, fd);
      else {
        // The newest comes first; of an older one the manager was not told in time that it had gone.
        close(fd);
        twice.add(name);
      }
    }
    this.kept = kept;
    this.#names = new Set(kept.keys());
    for (const name of twice) {
      this.#say({ name, fd: undefined });
      this.#say({ name, fd: kept.get(name) });
    }
  }

  /** Whether anybody keeps anything: without a manager a process takes its sockets along. */
  get keeps(): boolean {
    return this.#socket !== undefined;
  }

  /** How many descriptors were not taken: too many, or the manager could not. */
  get refused(): number {
    return this.#refused;
  }

  /** `fd` stays the caller's, and open until it is released. A name that is kept is replaced. */
  keep(name: string, fd: number): boolean {
    assert(NAME.test(name), "a descriptor's name is one to systemd");
    if (this.#socket === undefined) return false;
    if (this.#names.has(name)) this.release(name);
    if (this.#names.size >= MAX_KEPT) {
      this.#refused++;
      return false;
    }
    this.#names.add(name);
    this.#say({ name, fd });
    return true;
  }

  /** The manager closes its copy: a socket is gone, and its namespace may go, when nobody has one. */
  release(name: string): void {
    if (!this.#names.delete(name)) return;
    // What was not said yet must not be: the caller may close the descriptor now.
    const unsaid = this.#waiting.filter((message) => message.name === name);
    for (const message of unsaid) this.#waiting.splice(this.#waiting.indexOf(message), 1);
    const isThere = unsaid.length === 0 || unsaid.some(({ fd }) => fd === undefined);
    if (isThere) this.#say({ name, fd: undefined });
  }

  #say(message: Message): void {
    this.#waiting.push(message);
    if (this.#waiting.length === 1) this.#send();
  }

  /** In order, as far as the manager's queue takes it. */
  #send(): void {
    for (let message = this.#waiting[0]; message !== undefined; message = this.#waiting[0]) {
      const { name, fd } = message;
      // Polled, it would be dropped for an error that passes (udp_abort(), a full backlog): that
      // decision is its owner's.
      const what = fd === undefined ? ["FDSTOREREMOVE=1"] : ["FDSTORE=1", "FDPOLL=0"];
      const sent = this.#socket?.sendWith(fd, ...what, `FDNAME=${name}`);
      if (sent === "full") {
        setTimeout(() => this.#send(), RETRY_MS).unref();
        return;
      }
      if (sent === "refused") {
        this.#names.delete(name);
        this.#refused++;
      }
      this.#waiting.shift();
    }
  }
}
