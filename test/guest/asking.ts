import { createSocket } from "node:dgram";
import dnsPacket from "dns-packet";

/**
 * Runs in a container's namespace: asks for names as libc does, but each question only once, so that
 * one that is lost shows. Arguments: milliseconds from one question to the next, `name=address` of
 * each name. Says `<name> us` or `<name> Docker` when it is another who answers than before. Ends with
 * SIGTERM, and says what became of the questions.
 */

/** Docker's answers have another, 600 (libnetwork/resolver.go). */
const OUR_TTL_S = 2;
/** At the end: what is on its way may still come. */
const LAST_MS = 10_000;
const MAX_TOLD = 20;

export interface Asked {
  readonly asked: number;
  /** With the right address, by us and by Docker's resolver. */
  readonly byUs: number;
  readonly byDocker: number;
  /** Who answered the question that was asked last, of those with the right address. */
  readonly last: "us" | "Docker" | undefined;
  readonly slowestMs: number;
  readonly failed: number;
  /** The latest of them; `atMs` since 1970 it was asked. */
  readonly failures: readonly { readonly atMs: number; readonly what: string }[];
}

const [, , everyMs = "", ...names] = process.argv;
const timers: NodeJS.Timeout[] = [];
const open = new Set<() => void>();

const reports = names.map((text) => {
  const [name = "", address = ""] = text.split("=");
  const report = { asked: 0, byUs: 0, byDocker: 0, slowestMs: 0, failed: 0 };
  const failures: { atMs: number; what: string }[] = [];
  let lastAtMs = 0;
  let last: Asked["last"];

  const ask = (): void => {
    const id = ++report.asked & 0xffff;
    const atMs = Date.now();
    const socket = createSocket("udp4");
    const end = (what: string | undefined): void => {
      open.delete(giveUp);
      socket.close();
      if (what === undefined) return;
      report.failed++;
      failures.push({ atMs, what });
      if (failures.length > MAX_TOLD) failures.shift();
    };
    const giveUp = (): void => end("no answer");
    open.add(giveUp);
    socket.on("error", ({ message }) => end(message));
    socket.on("message", (bytes) => {
      const { flags = 0, answers = [] } = dnsPacket.decode(bytes);
      const [answer] = answers;
      if (answer?.type !== "A" || answer.data !== address) {
        end(`rcode ${flags & 15}, ${answers.length} answers`);
        return;
      }
      const who = answer.ttl === OUR_TTL_S ? "us" : "Docker";
      report[`by${who === "us" ? "Us" : who}`]++;
      if (atMs >= lastAtMs) {
        if (who !== last) console.log(`${name} ${who}`);
        last = who;
      }
      lastAtMs = Math.max(lastAtMs, atMs);
      report.slowestMs = Math.max(report.slowestMs, Date.now() - atMs);
      end(undefined);
    });
    const flags = dnsPacket.RECURSION_DESIRED;
    const questions = [{ name, type: "A", class: "IN" } as const];
    const query = dnsPacket.encode({ type: "query", id, flags, questions });
    socket.connect(53, "127.0.0.11", () => socket.send(query));
  };
  timers.push(setInterval(ask, Number(everyMs)));
  return (): [string, Asked] => [name, { ...report, last, failures }];
});

process.once("SIGTERM", () => {
  for (const timer of timers) clearInterval(timer);
  const ended = performance.now() + LAST_MS;
  const look = setInterval(() => {
    if (open.size > 0 && performance.now() < ended) return;
    clearInterval(look);
    for (const giveUp of open) giveUp();
    console.log(JSON.stringify(Object.fromEntries(reports.map((report) => report()))));
  }, 20);
});
