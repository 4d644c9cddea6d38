/** What systemd tells a service through its environment. Empty when somebody else started it. */
export interface Supervision {
  /** Where sd_notify(3) sends; `@` stands for the first byte of an abstract address. */
  readonly notifySocket: string | undefined;
  /** At least one WATCHDOG=1 in this time (sd_watchdog_enabled(3)). */
  readonly watchdogMs: number | undefined;
  /**
   * What was handed over (sd_listen_fds(3)): listening sockets, by FileDescriptorName=, and what an
   * earlier process of the service had kept, by FDNAME=. A name may come more than once.
   */
  readonly descriptors: readonly Descriptor[];
}

export interface Descriptor {
  readonly name: string;
  readonly fd: number;
}

const FIRST_DESCRIPTOR = 3;

const VARIABLES = [
  "NOTIFY_SOCKET",
  "WATCHDOG_USEC",
  "WATCHDOG_PID",
  "LISTEN_PID",
  "LISTEN_PIDFDID",
  "LISTEN_FDS",
  "LISTEN_FDNAMES",
  "FDSTORE",
];

export function readSupervision(
  environment: Readonly<Record<string, string | undefined>>,
  pid: number,
): Supervision {
  const names = environment["LISTEN_FDNAMES"]?.split(":") ?? [];
  const count = isFor(environment["LISTEN_PID"]) ? Number(environment["LISTEN_FDS"] ?? 0) : 0;
  const watchdogUs = Number(environment["WATCHDOG_USEC"] ?? 0);
  const watched = environment["WATCHDOG_PID"] === undefined || isFor(environment["WATCHDOG_PID"]);
  return {
    notifySocket: environment["NOTIFY_SOCKET"],
    watchdogMs: watched && watchdogUs > 0 ? watchdogUs / 1000 : undefined,
    descriptors: Array.from({ length: count }, (_, i) => ({
      name: names[i] ?? "unknown",
      fd: FIRST_DESCRIPTOR + i,
    })),
  };

  /** Inherited variables may be meant for a process before us. */
  function isFor(text: string | undefined): boolean {
    return Number(text) === pid;
  }
}

/** This process's own; what we start must not take itself for the service. */
export function takeSupervision(): Supervision {
  const found = readSupervision(process.env, process.pid);
  for (const name of VARIABLES) delete process.env[name];
  return found;
}
