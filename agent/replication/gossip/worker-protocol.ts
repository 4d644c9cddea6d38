import type { NodeId } from "../../../shared/ids.ts";
import type { WorkerAnswer, WorkerCall } from "../../../shared/node/worker-calls.ts";

/** What main thread and worker tell each other: calls with an id and their answers, and events. */

export type MeshMethod =
  | "admit"
  | "wantPeers"
  | "join"
  | "leave"
  | "publish"
  | "request"
  | "counters"
  | "otherVersions"
  | "ping"
  | "start"
  | "stop"
  | "exchange"
  | "watch"
  | "unwatch";

export type ToWorker =
  | WorkerCall<MeshMethod>
  | { readonly kind: "answer"; readonly id: number; readonly bytes: Uint8Array | undefined };

export type FromWorker =
  | WorkerAnswer
  | {
      readonly kind: "message";
      readonly topic: string;
      readonly from: NodeId;
      readonly bytes: Uint8Array;
    }
  /** A peer's request: to be answered with the same id, undefined bytes when it cannot be. */
  | {
      readonly kind: "request";
      readonly id: number;
      readonly from: NodeId;
      readonly bytes: Uint8Array;
    }
  /** On the controller's watch stream of that call. */
  | { readonly kind: "watched"; readonly id: number; readonly bytes: Uint8Array }
  | { readonly kind: "connected"; readonly node: NodeId }
  | { readonly kind: "disconnected"; readonly node: NodeId };
