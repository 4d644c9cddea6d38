import { createSocket } from "node:dgram";
import { execFileSync } from "node:child_process";
import { takeSupervision } from "../../shared/node/supervision.ts";
import { supervisor } from "../../shared/node/supervisor.ts";

/** A service with one socket that outlives it: sends back what it gets. SIGUSR2: gives the socket up. */

const NAME = "0123456789ab-u";
const { descriptors } = supervisor(takeSupervision());

const adopted = descriptors.kept.get(NAME);
const socket = createSocket("udp4");
socket.on("message", (bytes, from) => socket.send(bytes, from.port, from.address));
socket.on("listening", () => {
  if (adopted === undefined) descriptors.keep(NAME, descriptorOf(socket));
  const seen = execFileSync("/bin/sh", ["-c", "ls /proc/$$/fd"], { encoding: "utf8" });
  const said = {
    port: socket.address().port,
    adopted: adopted !== undefined,
    // The shell's own copy of its script's, if it makes one, is at 10.
    seenByChild: seen.split("\n").filter((fd) => Number(fd) > 2 && Number(fd) < 10),
  };
  console.log(JSON.stringify(said));
});
socket.bind(adopted === undefined ? { port: 0, address: "127.0.0.1" } : { fd: adopted });
process.on("SIGUSR2", () => descriptors.release(NAME));

/** Node does not say it. */
function descriptorOf(made: object): number {
  const state = Object.getOwnPropertySymbols(made).find(
    (one) => one.description === "state symbol",
  );
  const { handle } = (made as Record<symbol, { handle: { fd: number } }>)[state ?? Symbol()] ?? {};
  if (handle === undefined) throw new Error("no descriptor");
  return handle.fd;
}
