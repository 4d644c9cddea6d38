import { createSocket } from "node:dgram";
import { connect } from "node:net";
import dnsPacket from "dns-packet";
import { Unframer, framed } from "../../../agent/names/server/framing.ts";

/** A container's program that asks: in its namespace, told over IPC what to ask. */

export interface Ask {
  readonly name: string;
  readonly type?: dnsPacket.RecordType;
  readonly transport?: "udp" | "tcp";
  /** EDNS0 with this size. */
  readonly edns?: number;
  readonly ednsVersion?: number;
  readonly timeoutMs?: number;
}

export interface Said {
  readonly rcode: string;
  /** Whom the answer came from. */
  readonly from: string;
  readonly name: string;
  readonly data: string[];
  readonly truncated: boolean;
  readonly ttl: number | undefined;
  readonly bytes: number;
  readonly opt: { readonly udpPayloadSize: number; readonly extendedRcode: number } | undefined;
}

export interface Load {
  readonly name: string;
  readonly perSecond: number;
  readonly forMs: number;
  /** One socket for all, as a program that keeps one, or each question its own, as libc. */
  readonly sockets: "one" | "each";
  /** A question is asked again after this long, so often; as libc does. */
  readonly retryMs?: number;
  readonly tries?: number;
}

export interface Loaded {
  readonly asked: number;
  /** By first address, or rcode, or `nothing`. */
  readonly said: Readonly<Record<string, number>>;
  readonly slowestMs: number;
  readonly longestGapMs: number;
}

export type Command =
  | { readonly id: number; readonly ask: Ask }
  | { readonly id: number; readonly pipeline: readonly Ask[]; readonly cut: number }
  | { readonly id: number; readonly load: Load }
  | { readonly id: number; readonly flood: { readonly name: string; readonly count: number } }
  | { readonly id: number; readonly connections: number };

const SERVER = "127.0.0.11";
const PORT = 53;
const MOST_UNANSWERED = 100;
let lastId = 0;

function encode({ name, type = "A", edns, ednsVersion = 0 }: Ask, id: number): Buffer {
  return dnsPacket.encode({
    type: "query",
    id,
    flags: dnsPacket.RECURSION_DESIRED,
    questions: [{ name, type, class: "IN" }],
    additionals:
      edns === undefined
        ? []
        : [
            {
              type: "OPT",
              name: ".",
              udpPayloadSize: edns,
              extendedRcode: 0,
              ednsVersion,
              flags: 0,
              flag_do: false,
              options: [],
            },
          ],
  });
}

function decode(bytes: Buffer, from: string): Said {
  const { flags = 0, questions, answers, additionals } = dnsPacket.decode(bytes);
  const codes = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
  const opt = additionals?.find(({ type }) => type === "OPT") as Said["opt"];
  return {
    rcode: codes[flags & 15] ?? String(flags & 15),
    from,
    name: questions?.[0]?.name ?? "",
    data: (answers ?? []).map((answer) =>
      "data" in answer && typeof answer.data === "string" ? answer.data : "",
    ),
    truncated: (flags & dnsPacket.TRUNCATED_RESPONSE) !== 0,
    ttl: answers?.[0] && "ttl" in answers[0] ? answers[0].ttl : undefined,
    bytes: bytes.length,
    opt,
  };
}

function nextId(): number {
  lastId = (lastId + 1) & 0xffff;
  return lastId;
}

function askUdp(ask: Ask): Promise<Said | string> {
  const id = nextId();
  const socket = createSocket("udp4");
  return new Promise<Said | string>((resolve) => {
    const timer = setTimeout(() => resolve("nothing"), ask.timeoutMs ?? 5000);
    socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? "error"));
    socket.on("message", (bytes, { address, port }) => {
      clearTimeout(timer);
      if (bytes.readUInt16BE(0) === id) resolve(decode(bytes, `${address}:${port}`));
    });
    // Connected: an answer from elsewhere is none, as for libc.
    socket.connect(PORT, SERVER, () => socket.send(encode(ask, id)));
  }).finally(() => socket.close());
}

/** All in one stream, written in pieces of `cut` bytes. */
function askTcp(asks: readonly Ask[], cut: number): Promise<(Said | string)[]> {
  const ids = asks.map(nextId);
  const said = new Map<number, Said>();
  const unframer = new Unframer();
  return new Promise((resolve) => {
    const socket = connect(PORT, SERVER);
    const done = (): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(ids.map((id) => said.get(id) ?? "nothing"));
    };
    const timer = setTimeout(done, asks[0]?.timeoutMs ?? 5000);
    socket.setNoDelay(true);
    socket.on("connect", () => {
      const all = Buffer.concat(asks.map((ask, i) => framed(encode(ask, ids[i]!))));
      const write = (at: number): void => {
        if (at >= all.length) return;
        socket.write(all.subarray(at, at + cut), () => setImmediate(write, at + cut));
      };
      write(0);
    });
    socket.on("data", (chunk) => {
      for (const bytes of unframer.push(chunk))
        said.set(bytes.readUInt16BE(0), decode(bytes, `${SERVER}:${PORT}`));
      if (said.size === asks.length) done();
    });
    socket.on("error", done);
    socket.on("close", done);
  });
}

async function load({
  name,
  perSecond,
  forMs,
  sockets,
  retryMs,
  tries = 1,
}: Load): Promise<Loaded> {
  const said: Record<string, number> = {};
  let asked = 0;
  let slowestMs = 0;
  let lastMs = performance.now();
  let longestGapMs = 0;
  const open = new Map<number, (bytes: Buffer | undefined) => void>();
  const make = () => {
    const socket = createSocket("udp4");
    socket.on("message", (bytes) => open.get(bytes.readUInt16BE(0))?.(bytes));
    socket.on("error", () => {});
    return socket;
  };
  const shared = sockets === "one" ? make() : undefined;
  const one = async (): Promise<void> => {
    const id = nextId();
    const bytes = encode({ name }, id);
    const socket = shared ?? make();
    asked++;
    const begunMs = performance.now();
    let timer: NodeJS.Timeout | undefined;
    const answer = await new Promise<Buffer | undefined>((resolve) => {
      open.set(id, resolve);
      let left = tries;
      const attempt = (): void => {
        if (left-- === 0) return resolve(undefined);
        socket.send(bytes, PORT, SERVER);
        timer = setTimeout(attempt, retryMs ?? 2000);
      };
      attempt();
    });
    clearTimeout(timer);
    open.delete(id);
    if (shared === undefined) socket.close();
    const nowMs = performance.now();
    if (answer !== undefined) {
      slowestMs = Math.max(slowestMs, nowMs - begunMs);
      longestGapMs = Math.max(longestGapMs, nowMs - lastMs);
      lastMs = nowMs;
    }
    const { rcode, data } =
      answer === undefined ? { rcode: "nothing", data: [] } : decode(answer, "");
    const what = data[0] ?? rcode;
    said[what] = (said[what] ?? 0) + 1;
  };
  const running: Promise<void>[] = [];
  const begunMs = performance.now();
  for (let nowMs = begunMs; nowMs < begunMs + forMs; nowMs = performance.now()) {
    const due = Math.floor(((nowMs - begunMs) / 1000) * perSecond);
    // On a slow machine fewer are asked: no buffer on the way may be what loses them.
    while (running.length < due && open.size < MOST_UNANSWERED) running.push(one());
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await Promise.all(running);
  shared?.close();
  return { asked, said, slowestMs, longestGapMs };
}

/** As fast as it goes, and no answer is waited for. */
async function flood(name: string, count: number): Promise<void> {
  const socket = createSocket("udp4");
  socket.on("error", () => {});
  for (let i = 0; i < count; i++) {
    socket.send(encode({ name }, i & 0xffff), PORT, SERVER);
    if (i % 100 === 99) await new Promise((resolve) => setImmediate(resolve));
  }
  socket.close();
}

/** How many of so many connections, with nothing asked, are still there after a moment. */
async function connections(count: number): Promise<number> {
  let alive = 0;
  const all = Array.from({ length: count }, () => connect(PORT, SERVER));
  await Promise.all(
    all.map(
      (socket) =>
        new Promise<void>((resolve) => {
          socket.on("error", () => resolve());
          socket.on("close", () => resolve());
          socket.on("connect", () => {
            socket.write(framed(encode({ name: "db" }, 1)));
          });
          socket.on("data", () => {
            alive++;
            resolve();
          });
        }),
    ),
  );
  for (const socket of all) socket.destroy();
  return alive;
}

async function run(command: Command): Promise<unknown> {
  if ("ask" in command) {
    if (command.ask.transport !== "tcp") return askUdp(command.ask);
    return (await askTcp([command.ask], 65535))[0];
  }
  if ("pipeline" in command) return askTcp(command.pipeline, command.cut);
  if ("load" in command) return load(command.load);
  if ("connections" in command) return connections(command.connections);
  return flood(command.flood.name, command.flood.count);
}

process.on("message", (command: Command) => {
  run(command).then(
    (value) => process.send?.({ id: command.id, value }),
    (error: unknown) => process.send?.({ id: command.id, error: String(error) }),
  );
});
process.on("disconnect", () => process.exit());
