import type { IgnoredContainer, NetworkStatus } from "../api/status.ts";

/** Containers that no host has in its data plane, since they break a rule: which, where, and what to do. */

/** Those of hosts that were removed, or are not on the network any more, are not shown. */
type Shown = Exclude<IgnoredContainer["reason"], "not-admitted" | "not-hosting">;

const NEXT: Readonly<Record<Shown, string>> = {
  "not-in-block": "its address is not one of that host's: restart the container there",
  "not-allowed":
    "that host's token did not allow this network: `overlay-ts leave` there, `overlay-ts node rm` on the controller's host, then join it with another",
  gateway: "it has the gateway's address: give it another `--ip`",
  "mac-taken": "another container has its MAC: start one of them without `--mac-address`",
  "address-taken": "another container has its address: restart one of them",
  "no-address": "it has no address: restart the container there",
};

export function ignoredText(
  networks: readonly Pick<NetworkStatus, "id" | "name" | "ignored">[],
): string[] {
  const lines = networks.flatMap(({ id, name = id, ignored }) =>
    ignored.flatMap(({ host, container, endpoint, reason }) => [
      `ignored on ${name}: ${container === undefined ? `endpoint ${endpoint.slice(0, 12)}` : `container ${container}`} of ${host}: ${reason}`,
      `  → ${nextOf(reason)}`,
    ]),
  );
  return lines.length === 0 ? [] : ["", ...lines];
}

/** An agent of a later version may have other reasons. */
function nextOf(reason: string): string {
  const known: Readonly<Record<string, string>> = NEXT;
  return known[reason] ?? "see `overlay-ts status` and `overlay-ts verify` there";
}
