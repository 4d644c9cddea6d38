import { asFailure, type ErrorCode, type Failure, OverlayError } from "../errors.ts";

/** Calls between a thread and its worker: each has an id, and is answered once or ends with the worker. */

export interface WorkerCall<Method extends string> {
  readonly kind: "call";
  readonly id: number;
  readonly method: Method;
  readonly args: unknown[];
}

export type WorkerAnswer =
  | { readonly kind: "done"; readonly id: number; readonly value: unknown }
  | { readonly kind: "failed"; readonly id: number; readonly failure: Failure };

/** Of the worker's, in the log of the thread that has one. */
export interface WorkerLog {
  readonly kind: "log";
  readonly level: "info" | "warn";
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly timer: NodeJS.Timeout | undefined;
}

/** The caller's side. */
export class WorkerCalls<Method extends string> {
  readonly #name: string;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;

  /** @param name of the worker, for errors: `the mesh`. */
  constructor(name: string) {
    this.#name = name;
  }

  /** The next call's. */
  get nextId(): number {
    return this.#lastId + 1;
  }

  /**
   * @param post undefined: there is no worker now.
   * @param timeoutMs undefined: until it is answered, or the worker ends.
   * @throws UNREACHABLE, TIMEOUT, or what the worker's side threw.
   */
  call(
    post: ((call: WorkerCall<Method>) => void) | undefined,
    method: Method,
    args: unknown[],
    timeoutMs: number | undefined,
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (post === undefined) {
        reject(this.#failure("UNREACHABLE", "is not running"));
        return;
      }
      const id = ++this.#lastId;
      const late = (): void => {
        this.#pending.delete(id);
        reject(this.#failure("TIMEOUT", `did not ${method}`));
      };
      const timer = timeoutMs === undefined ? undefined : setTimeout(late, timeoutMs);
      this.#pending.set(id, { resolve, reject, timer });
      post({ kind: "call", id, method, args });
    });
  }

  answered(answer: WorkerAnswer): void {
    const call = this.#pending.get(answer.id);
    this.#pending.delete(answer.id);
    clearTimeout(call?.timer);
    if (answer.kind === "done") call?.resolve(answer.value);
    else call?.reject(new OverlayError(answer.failure));
  }

  /** The worker ended, and with it every call under way. */
  ended(): void {
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(this.#failure("UNREACHABLE", "ended"));
    }
    this.#pending.clear();
  }

  #failure(code: ErrorCode, what: string): OverlayError {
    return new OverlayError({ code, message: `${this.#name} ${what}` });
  }
}

/** The worker's side: what `work` gives or throws is the answer. */
export function answerCall<Method extends string>(
  { id, method, args }: WorkerCall<Method>,
  work: (id: number, method: Method, args: unknown[]) => Promise<unknown>,
  post: (answer: WorkerAnswer) => void,
): void {
  work(id, method, args).then(
    (value) => post({ kind: "done", id, value }),
    (error: unknown) => post({ kind: "failed", id, failure: asFailure(error) }),
  );
}
