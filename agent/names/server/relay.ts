import { createSocket } from "node:dgram";
import { refusal } from "./answer.ts";

/** Docker's own names come in a millisecond, from an engine that has a processor; there are no others. */
export const RELAY_MS = 1000;

const SERVFAIL = 2;
const REFUSED = 5;

/**
 * The answer to a client on internal networks: Docker's answer, and NXDOMAIN where there is none or it
 * says that it could not ask. Undefined: nothing can be said.
 */
export function closedAnswer(query: Buffer, answer: Buffer | undefined): Buffer | undefined {
  const code = answer === undefined || answer.length < 4 ? SERVFAIL : answer[3]! & 15;
  return code === SERVFAIL || code === REFUSED ? (refusal(query) ?? answer) : answer;
}

/**
 * One question over a socket of its own: a new flow, which Docker's rules as they are now apply to.
 *
 * @param fd UDP, connected and asked; is closed in the end.
 * @param done once: the answer to that question, or undefined when none came in time.
 */
export function awaitAnswer(
  fd: number,
  query: Buffer,
  done: (answer: Buffer | undefined) => void,
): void {
  const socket = createSocket("udp4");
  let ended = false;
  const end = (answer: Buffer | undefined): void => {
    if (ended) return;
    ended = true;
    clearTimeout(timer);
    socket.removeAllListeners().on("error", () => {});
    socket.close();
    done(answer);
  };
  // After the sockets were looked at once more: if we are late ourselves, the answer is there already.
  const timer = setTimeout(() => setImmediate(() => end(undefined)), RELAY_MS);
  socket.on("message", (answer) => {
    if (answer.length >= 4 && answer.readUInt16BE(0) === query.readUInt16BE(0)) end(answer);
  });
  // Nobody listens: the kernel says so at once.
  socket.on("error", () => end(undefined));
  socket.bind({ fd, exclusive: true });
}
