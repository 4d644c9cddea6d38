import { OverlayError } from "../../shared/errors.ts";
import type { PortAnswer } from "../../shared/node/tcp-port.ts";

/** Where the controller should be, what its port said then, and what the request failed with. */
export interface Unanswered {
  readonly address: string;
  readonly port: number;
  readonly said: PortAnswer;
  /** Undefined: with the end of `timeoutMs`. */
  readonly why: string | undefined;
  readonly timeoutMs: number;
}

/**
 * A request without an answer, by what the controller's port says: one that takes the connection is slow (TIMEOUT),
 * and may have done what it was asked; the others are not reached (UNREACHABLE), each for its own reason.
 */
export function unanswered(
  { address, port, said, why, timeoutMs }: Unanswered,
  cause: unknown,
): OverlayError {
  const where = `the controller at ${address}:${port}/tcp`;
  const [code, message, next] = ((): ["TIMEOUT" | "UNREACHABLE", string, string] => {
    switch (said.kind) {
      case "accepts":
        return why === undefined
          ? [
              "TIMEOUT",
              `${where} takes connections, and has not answered within ${timeoutMs / 1000} s: it or this host is busy`,
              "run it again; if it stays so, see the load of both hosts (`uptime`) and `journalctl -u overlay-ts-controller` there",
            ]
          : [
              "UNREACHABLE",
              `${where} does not answer: ${why}`,
              "check that it runs (`systemctl status overlay-ts-controller` there), and see its log",
            ];
      case "refuses":
        return [
          "UNREACHABLE",
          `${where} does not answer: the connection is refused, nobody listens there`,
          "check that it runs (`systemctl status overlay-ts-controller` there); if it does, a firewall refuses in its place",
        ];
      case "no-route":
        return [
          "UNREACHABLE",
          `${where} does not answer: there is no route to its host`,
          `check that its host is up, and the way to it: \`ip route get ${address}\` here`,
        ];
      case "silent":
        return [
          "UNREACHABLE",
          `${where} does not answer: what is sent to the port is lost`,
          `check that its host is up, and open ${port}/tcp in the firewalls between`,
        ];
      case "not-sent":
        return [
          "UNREACHABLE",
          `${where} does not answer: this host cannot send to it: ${said.why}`,
          "see this host's own firewall (`nft list ruleset`) and addresses (`ip address`)",
        ];
    }
  })();
  return new OverlayError({ code, message, next }, { cause });
}
