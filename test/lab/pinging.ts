import { eventually, type LabHost } from "../support/lab-host.ts";
import { pidOf } from "./containers.ts";

let runs = 0;

export interface Pings {
  readonly sent: number;
  /** Sequence numbers without an answer, after the first that has one. */
  readonly lost: readonly number[];
}

/**
 * Echo requests ten times a second out of a container's namespace, from the first answer until it is stopped. Not by
 * `docker exec`: it goes on while engine and agent are away.
 */
export class Pinging {
  readonly #host: LabHost;
  readonly #name: string;
  readonly #first: number;

  private constructor(host: LabHost, name: string, first: number) {
    this.#host = host;
    this.#name = name;
    this.#first = first;
  }

  static async start(host: LabHost, container: string, address: string): Promise<Pinging> {
    const name = `ping-${++runs}`;
    const pid = await pidOf(host, container);
    const script = 'echo $$ >"$1"; exec nsenter --net="$2" /bin/busybox ping -i 0.1 "$3"';
    const netns = `/proc/${pid}/ns/net`;
    host.service(name, "sh", "-c", script, "sh", `/run/${name}.pid`, netns, address);
    const first = await eventually(20_000, `a first answer of ${address}`, async () => {
      const [answered] = answers(host.log(name));
      if (answered === undefined) throw new Error(host.log(name));
      return answered;
    });
    return new Pinging(host, name, first);
  }

  /**
   * When `least` were sent, however fast the machine is. What was sent last has an answer, or is given the time that an
   * answer may take.
   */
  async stop(least = 20): Promise<Pings> {
    const before = Math.max(...answers(this.#log()));
    const last = Math.max(before + 2, this.#first + least + 1);
    await eventually(10_000, "answers to what is sent now", async () => {
      if (Math.max(...answers(this.#log())) < last) throw new Error("none yet");
    }).catch(() => {});
    const due = Math.max(...answers(this.#log()));
    const script = 'p=$(cat "$1"); kill -INT "$p"; while [ -e "/proc/$p" ]; do sleep 0.1; done';
    await this.#host.exec("sh", "-c", script, "sh", `/run/${this.#name}.pid`);
    const text = this.#log();
    const transmitted = Number(/(\d+) packets transmitted/.exec(text)?.[1] ?? 0);
    // Where none came any more, nothing excuses those without an answer.
    const until = due < before + 2 ? transmitted : due;
    const answered = new Set(answers(text));
    const sent = Math.max(0, until - this.#first);
    const all = Array.from({ length: sent }, (_, i) => this.#first + i);
    return { sent, lost: all.filter((seq) => !answered.has(seq)) };
  }

  #log(): string {
    return this.#host.log(this.#name);
  }
}

/** Sequence numbers that were answered. */
function answers(text: string): number[] {
  return [...text.matchAll(/ seq=(\d+) /g)].map(([, seq]) => Number(seq));
}
