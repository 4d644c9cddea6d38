import { awaitServer } from "../../agent/names/server/waiting-questions.ts";
import { takeSupervision } from "../../shared/node/supervision.ts";

/** A service that gets sockets with questions in them, and does with them what its argument says. */

const [, , what, patienceMs] = process.argv;
const sockets = takeSupervision().descriptors.map(({ fd }) => fd);
const questions = awaitServer(sockets, Number(patienceMs));
const serve = (): void => {
  console.log(questions.takeOver() > 0 ? "in time" : "late");
  questions.served();
};
process.on("SIGUSR2", serve);
console.log("waiting");

switch (what) {
  case "fail":
    throw new Error("as the test wants it");
  case "load":
    // Without end, and without a turn of the event loop.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    break;
  case "serve":
    serve();
    break;
  case "wait":
    setInterval(() => {}, 1000);
    break;
  default:
    throw new Error(`not known: ${what}`);
}
