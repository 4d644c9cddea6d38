/** What systemd tells a service through its environment. Empty when somebody else started it. */
export interface Supervision {
  /** Where sd_notify(3) sends; `@` stands for the first byte of an abstract address. */
  readonly notifySocket: string | undefined;
  /** At least one WATCHDOG=1 in this time (sd_watchdog_enabled(3)). */
  readonly watchdogMs: number | undefined;
  /** Listening sockets that were made for us, descriptors by FileDescriptorName= (sd_listen_fds(3)). */
  readonly sockets: ReadonlyMap<string, number>;
}

const FIRST_SOCKET = 3;

const VARIABLES = [
  "NOTIFY_SOCKET",
  "WATCHDOG_USEC",
  "WATCHDOG_PID",
  "LISTEN_PID",
  "LISTEN_FDS",
  "LISTEN_FDNAMES",
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
    sockets: new Map(
      Array.from({ length: count }, (_, i) => [names[i] ?? "unknown", FIRST_SOCKET + i]),
    ),
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
