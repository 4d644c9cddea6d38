import { NotifySocket } from "./notify-socket.ts";
import type { Supervision } from "./supervision.ts";

/** Who started the service and wants to know how it stands. */
export interface Supervisor {
  /** How often, at the latest, a sign of life is wanted; undefined: not at all. */
  readonly watchdogMs: number | undefined;
  /** The service answers; said once, the first time counts. */
  ready(): void;
  /** One line for people. */
  status(text: string): void;
  alive(): void;
  stopping(): void;
}

/** systemd's protocol (sd_notify(3)); without a manager that asked for it nothing is sent. */
export function supervisor({ notifySocket, watchdogMs }: Supervision): Supervisor {
  const socket = notifySocket === undefined ? undefined : new NotifySocket(notifySocket);
  let ready = false;
  return {
    watchdogMs,
    ready() {
      if (!ready) socket?.send("READY=1");
      ready = true;
    },
    status: (text) => void socket?.send(`STATUS=${text.replaceAll("\n", " ")}`),
    alive: () => void socket?.send("WATCHDOG=1"),
    stopping: () => void socket?.send("STOPPING=1"),
  };
}
