import type { LabHost } from "../support/lab-host.ts";

let runs = 0;

export interface Pings {
  readonly sent: number;
  /** Sequence numbers without an answer; the last two may be on their way still. */
  readonly lost: readonly number[];
}

/**
 * Echo requests ten times a second out of a container's namespace until it is stopped. Not by
 * `docker exec`: it goes on while engine and agent are away.
 */
export class Pinging {
  readonly #host: LabHost;
  readonly #name: string;

  private constructor(host: LabHost, name: string) {
    this.#host = host;
    this.#name = name;
  }

  static async start(host: LabHost, container: string, address: string): Promise<Pinging> {
    const name = `ping-${++runs}`;
    const pid = (await host.docker("inspect", "-f", "{{.State.Pid}}", container)).trim();
    const script = 'echo $$ >"$1"; exec nsenter --net="$2" /bin/busybox ping -i 0.1 "$3"';
    const netns = `/proc/${pid}/ns/net`;
    host.service(name, "sh", "-c", script, "sh", `/run/${name}.pid`, netns, address);
    return new Pinging(host, name);
  }

  async stop(): Promise<Pings> {
    const script = 'p=$(cat "$1"); kill -INT "$p"; while [ -e "/proc/$p" ]; do sleep 0.1; done';
    await this.#host.exec("sh", "-c", script, "sh", `/run/${this.#name}.pid`);
    const text = this.#host.log(this.#name);
    const sent = Number(/(\d+) packets transmitted/.exec(text)?.[1] ?? 0);
    const answered = new Set([...text.matchAll(/ seq=(\d+) /g)].map(([, seq]) => Number(seq)));
    const due = Array.from({ length: Math.max(0, sent - 2) }, (_, seq) => seq);
    return { sent, lost: due.filter((seq) => !answered.has(seq)) };
  }
}
