import { createSocket } from "node:dgram";
import dnsPacket from "dns-packet";

/** Asks over one socket as the benchmark says, and measures; in a container's namespace. */

export interface Measure {
  readonly name: string;
  readonly forMs: number;
  /** So many questions a second, or as many as are answered with so many unanswered ones. */
  readonly pace: { readonly perSecond: number } | { readonly unanswered: number };
}

export interface Measured {
  readonly asked: number;
  readonly answered: number;
  readonly seconds: number;
  /** Milliseconds, of each answer. */
  readonly times: readonly number[];
}

/** The last answers to come. */
const GRACE_MS = 1000;
const TURN_MS = 1;
/** After a turn that came late: what the client's own buffer holds of answers. */
const MOST_A_TURN = 64;

async function measure({ name, forMs, pace }: Measure): Promise<Measured> {
  const query = dnsPacket.encode({ type: "query", id: 0, questions: [{ name, type: "A" }] });
  const socket = createSocket({ type: "udp4", recvBufferSize: 4 << 20 });
  await new Promise<void>((resolve) => socket.connect(53, "127.0.0.11", resolve));
  const sentMs = new Float64Array(65536);
  const times: number[] = [];
  let asked = 0;
  const ask = (): void => {
    asked = asked + 1;
    const id = asked & 0xffff;
    const bytes = Buffer.from(query);
    bytes.writeUInt16BE(id, 0);
    sentMs[id] = performance.now();
    socket.send(bytes);
  };
  const begunMs = performance.now();
  const untilMs = begunMs + forMs;
  socket.on("error", () => {});
  socket.on("message", (bytes) => {
    const nowMs = performance.now();
    times.push(nowMs - sentMs[bytes.readUInt16BE(0)]!);
    if ("unanswered" in pace && nowMs < untilMs) ask();
  });
  if ("unanswered" in pace) for (let i = 0; i < pace.unanswered; i++) ask();
  for (let nowMs = begunMs; nowMs < untilMs; nowMs = performance.now()) {
    if ("perSecond" in pace) {
      const due = ((nowMs - begunMs) / 1000) * pace.perSecond - asked;
      for (let i = 0; i < Math.min(due, MOST_A_TURN); i++) ask();
    }
    await new Promise((resolve) => setTimeout(resolve, TURN_MS));
  }
  const seconds = (performance.now() - begunMs) / 1000;
  await new Promise((resolve) => setTimeout(resolve, GRACE_MS));
  socket.close();
  return { asked, answered: times.length, seconds, times };
}

process.on("message", (command: Measure) => {
  void measure(command).then((measured) => process.send?.(measured));
});
process.on("disconnect", () => process.exit());
