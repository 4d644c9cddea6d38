import { parentPort, workerData } from "node:worker_threads";
import { asFailure, assert, OverlayError } from "../../shared/errors.ts";
import { MeshNode } from "./mesh-node.ts";
import type { MeshHandlers, MeshOptions } from "./port.ts";
import type { FromWorker, ToWorker } from "./worker-protocol.ts";

/** The worker's side: a MeshNode whose calls and events pass through messages. */

assert(parentPort !== null, "the mesh runs in a worker");
const port = parentPort;
const mesh = new MeshNode(workerData as MeshOptions);
const asked = new Map<number, (bytes: Uint8Array | undefined) => void>();
let lastRequest = 0;

function tell(message: FromWorker): void {
  port.postMessage(message);
}

const handlers: MeshHandlers = {
  message: (topic, from, bytes) => tell({ kind: "message", topic, from, bytes }),
  connected: (node) => tell({ kind: "connected", node }),
  disconnected: (node) => tell({ kind: "disconnected", node }),
  request: async (from, bytes) => {
    const id = ++lastRequest;
    const answer = new Promise<Uint8Array | undefined>((resolve) => asked.set(id, resolve));
    tell({ kind: "request", id, from, bytes });
    const answered = await answer;
    if (answered !== undefined) return answered;
    throw new OverlayError({ code: "INVALID", message: "the request was refused" });
  },
};

async function call(method: string, args: unknown[]): Promise<unknown> {
  if (method === "start") return mesh.start(handlers);
  const callable = mesh as unknown as Record<string, (...args: unknown[]) => unknown>;
  return callable[method]?.(...args);
}

port.on("message", (message: ToWorker) => {
  if (message.kind === "answer") {
    asked.get(message.id)?.(message.bytes);
    asked.delete(message.id);
    return;
  }
  const { id, method, args } = message;
  call(method, args).then(
    (value) => tell({ kind: "done", id, value }),
    (error: unknown) => tell({ kind: "failed", id, failure: asFailure(error) }),
  );
});
