import { createSocket } from "node:dgram";
import packet from "dns-packet";

/** A program, run in a container's namespace: as many questions as it can send, for so many milliseconds. */

const [lastsMs = "1000", ...names] = process.argv.slice(2);
/** Sockets in turn, as many clients would be. */
const SOCKETS = 50;
const BATCH = 200;

const queries = names.map((name, i) =>
  packet.encode({
    type: "query",
    id: i + 1,
    flags: packet.RECURSION_DESIRED,
    questions: [{ type: "A", name }],
  }),
);
const sockets = Array.from({ length: SOCKETS }, () => createSocket("udp4"));
let sent = 0;
let answered = 0;
for (const socket of sockets) {
  socket.on("message", () => answered++);
  socket.on("error", () => {});
}

const untilMs = performance.now() + Number(lastsMs);
function batch(): void {
  for (let i = 0; i < BATCH; i++) {
    sockets[sent % SOCKETS]?.send(queries[sent % queries.length] ?? "", 53, "127.0.0.11");
    sent++;
  }
  if (performance.now() < untilMs) setImmediate(batch);
  else
    setTimeout(() => {
      process.stdout.write(`${JSON.stringify({ sent, answered })}\n`);
      process.exit();
    }, 500);
}
batch();
