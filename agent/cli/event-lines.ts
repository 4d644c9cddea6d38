import { isShortId } from "../core/names/name-rows.ts";
import type { HolderGone, HolderHappening, ReachHappening } from "../core/events/events.ts";
import type { Event } from "../events/event-log.ts";
import { lossText } from "../store/loss.ts";

/** `time  network  who  what  more`; `-` where there is none, so that columns can be counted on. */
export function eventLine(event: Event): string {
  const { network, who, what, more } = partsOf(event);
  return [event.at, network ?? "-", who ?? "-", what, more].join("  ").trimEnd();
}

interface Parts {
  readonly network?: string | undefined;
  readonly who?: string | undefined;
  readonly what: string;
  readonly more: string;
}

function partsOf(event: Event): Parts {
  switch (event.kind) {
    case "started":
      return { who: "agent", what: "started", more: "" };
    case "lost-from-disk":
      return { who: "disk", what: "lost", more: lossText(event) };
    case "host-joined":
      return { who: event.host, what: "joined", more: "" };
    case "host-left":
      return { who: event.host, what: "left", more: "the cluster" };
    case "host-unreachable":
      return { who: event.host, what: "unreachable", more: held("out", event.holds) };
    case "host-back":
      return { who: event.host, what: "back", more: held("in", event.holds) };
    case "network-appeared":
      return {
        network: event.network,
        what: "appeared",
        more: event.named ? "" : "without a name",
      };
    case "network-named":
      return { network: event.network, what: "named", more: `its id is ${event.id}` };
    case "network-ended":
      return { network: event.network, what: "ended", more: "" };
    case "network-here":
      return { network: event.network, what: "here", more: "this host is on it" };
    case "network-not-here":
      return { network: event.network, what: "not-here", more: "this host is on it no more" };
    case "network-removed":
      return { network: event.network, what: "removed", more: "on this engine" };
    case "network-put-back":
      return { network: event.network, what: "put-back", more: "on this engine" };
    case "in":
    case "changed":
    case "gone":
      return { ...holder(event), what: event.kind };
    case "out": {
      const { more, ...rest } = holder(event);
      return { ...rest, what: "out", more: `${event.state}: ${more}` };
    }
    case "problem":
      return { network: event.network, who: event.what, what: "problem", more: event.message };
    case "recovered":
      return { network: event.network, who: event.what, what: "recovered", more: "" };
    case "guards-tampered":
      return { who: "guards", what: "tampered", more: "changed by somebody else, and put back" };
  }
}

function holder({
  network,
  names,
  ips,
  host,
  endpoint,
}: HolderHappening | HolderGone): Omit<Parts, "what"> {
  const [own = `(${endpoint.slice(0, 12)})`] = names;
  const others = names.filter((name, i) => i > 0 && !isShortId(name, i));
  const also = others.length === 0 ? "" : `, also ${others.join(", ")}`;
  return { network, who: own, more: `${ips.join(",") || "no address"} on ${host}${also}` };
}

function held(what: string, holds: ReachHappening["holds"]): string {
  const lists = holds.map(({ network, names, count }) => {
    const more = count - names.length;
    return `${network}: ${names.join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
  });
  return lists.length === 0 ? "" : `${what} on ${lists.join("; ")}`;
}
