import { parentPort, workerData } from "node:worker_threads";
import { assert, OverlayError } from "../../../shared/errors.ts";
import { answerCall } from "../../../shared/node/worker-calls.ts";
import { giveBackMemory } from "../../../shared/node/give-back-memory.ts";
import type { ControlChannel, ControllerAddress } from "../../../controller/wire/channel.ts";
import { Libp2pChannel } from "../../../controller/wire/libp2p-channel.ts";
import { MeshNode } from "./mesh-node.ts";
import type { MeshHandlers, MeshOptions } from "./port.ts";
import type { FromWorker, MeshMethod, ToWorker } from "./worker-protocol.ts";

/** The worker's side: all of libp2p. A MeshNode, and the line to the controller, whose calls and events pass through messages. */

assert(parentPort !== null, "the mesh runs in a worker");
const port = parentPort;
const options = workerData as MeshOptions;
const mesh = new MeshNode(options);
const control = new Libp2pChannel(options.identitySeed);
const watches = new Map<number, AbortController>();
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

async function call(id: number, method: MeshMethod, args: unknown[]): Promise<unknown> {
  switch (method) {
    case "start":
      await mesh.start(handlers);
      giveBackMemory();
      return undefined;
    case "exchange":
      return control.exchange(...(args as Parameters<ControlChannel["exchange"]>));
    case "watch": {
      const stop = new AbortController();
      watches.set(id, stop);
      const heard = (bytes: Uint8Array): void => tell({ kind: "watched", id, bytes });
      return control
        .watch(args[0] as ControllerAddress, heard, stop.signal)
        .finally(() => watches.delete(id));
    }
    case "ping":
      return undefined;
    case "unwatch":
      watches.get(args[0] as number)?.abort();
      return undefined;
    case "stop":
      await control.close();
      return mesh.stop();
    default: {
      // Each of the remaining names is a method of the mesh, or this does not compile.
      const work: (...of: never[]) => unknown = mesh[method];
      return work.apply(mesh, args as never[]);
    }
  }
}

port.on("message", (message: ToWorker) => {
  if (message.kind === "answer") {
    asked.get(message.id)?.(message.bytes);
    asked.delete(message.id);
    return;
  }
  answerCall(message, call, tell);
});
