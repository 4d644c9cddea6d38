import { connect } from "node:net";

/** What a TCP port said to a connection that was only opened. Each has another cause, and another remedy. */
export type PortAnswer =
  /** Somebody listens; whether it is who was meant, and whether it gets to answering, is not known by it. */
  | { readonly kind: "accepts" }
  /** The machine is there, and nobody listens; a firewall may refuse in its name. */
  | { readonly kind: "refuses" }
  /** No way to the machine, or nobody on the link has the address. */
  | { readonly kind: "no-route" }
  /** The opening packet (SYN) got no answer at all. */
  | { readonly kind: "silent" }
  /** This machine did not send: in its own words why. */
  | { readonly kind: "not-sent"; readonly why: string };

/** The kernel sends a SYN again after one second: both have their time. */
export const PORT_TIMEOUT_MS = 2000;

const KINDS: Readonly<Record<string, "refuses" | "no-route" | "silent">> = {
  ECONNREFUSED: "refuses",
  EHOSTUNREACH: "no-route",
  ENETUNREACH: "no-route",
  ENETDOWN: "no-route",
  EHOSTDOWN: "no-route",
  ETIMEDOUT: "silent",
};

/** What the system said when a connection could not be opened; undefined: it was not that. */
export function portSaid(error: unknown): PortAnswer | undefined {
  const { code, syscall } = error as NodeJS.ErrnoException;
  const kind = KINDS[code ?? ""];
  return kind === undefined || syscall !== "connect" ? undefined : { kind };
}

/** A kernel takes a connection on behalf of a process, however busy that is. */
export function askPort(
  host: string,
  port: number,
  timeoutMs: number = PORT_TIMEOUT_MS,
): Promise<PortAnswer> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (answer: PortAnswer): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    // A process that got no processor for so long looks at what came meanwhile first.
    const timer = setTimeout(() => setImmediate(end, { kind: "silent" }), timeoutMs);
    socket
      .once("connect", () => end({ kind: "accepts" }))
      .once("error", (error) => end(portSaid(error) ?? { kind: "not-sent", why: error.message }));
  });
}
