import { DescriptorStore } from "./descriptor-store.ts";
import { NotifySocket } from "./notify-socket.ts";
import type { Supervision } from "./supervision.ts";

/** Who started the service and wants to know how it stands. */
export interface Supervisor {
  /** How often, at the latest, a sign of life is wanted; undefined: not at all. */
  readonly watchdogMs: number | undefined;
  /** Listening sockets of our socket units, by FileDescriptorName=; several with one name are kept apart. */
  readonly listening: (name: string) => readonly number[];
  /** What the next process of the service gets from this one. */
  readonly descriptors: DescriptorStore;
  /** The service answers; said once, the first time counts. */
  ready(): void;
  /** One line for people. */
  status(text: string): void;
  alive(): void;
  stopping(): void;
}

/**
 * systemd's protocol (sd_notify(3)); without a manager that asked for it nothing is sent. What was
 * handed over and is not named in `socketUnits` was kept for us by an earlier process.
 */
export function supervisor(
  { notifySocket, watchdogMs, descriptors }: Supervision,
  socketUnits: readonly string[] = [],
): Supervisor {
  const socket = notifySocket === undefined ? undefined : new NotifySocket(notifySocket);
  const kept = descriptors.filter(({ name }) => !socketUnits.includes(name));
  let ready = false;
  return {
    watchdogMs,
    listening: (name) =>
      descriptors.filter((one) => one.name === name && !kept.includes(one)).map(({ fd }) => fd),
    descriptors: new DescriptorStore(socket, kept),
    ready() {
      if (!ready) socket?.send("READY=1");
      ready = true;
    },
    status: (text) => void socket?.send(`STATUS=${text.replaceAll("\n", " ")}`),
    alive: () => void socket?.send("WATCHDOG=1"),
    stopping: () => void socket?.send("STOPPING=1"),
  };
}
