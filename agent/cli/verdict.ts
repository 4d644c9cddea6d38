import type { Failure } from "../../shared/errors.ts";
import { counted } from "../../shared/text.ts";
import type { Status } from "../api/status.ts";
import { isNarrow, isReached } from "../core/liveness/narrow-paths.ts";

/** Whether a host is well: what `status` begins with, and its exit status. What was, and is over, does not count. */

const NAMED = 3;

/** In a few words each, the most important first; the rest of `status` says more of each. */
export function wrongs(found: Status, controller: Failure | undefined): string[] {
  return [
    ...(found.removed === undefined ? [] : ["this host was removed from the cluster"]),
    ...(found.disk?.failure === undefined ? [] : ["the disk: new containers are refused"]),
    ...problems(found),
    ...hosts(found),
    ...networks(found),
    ...paths(found),
    ...engine(found),
    ...names(found),
    ...(found.metrics?.failure === undefined ? [] : ["metrics"]),
    ...(controller === undefined ? [] : ["the controller"]),
  ];
}

export function verdictText(found: Status, wrong: readonly string[]): string {
  if (wrong.length > 0) return `not well: ${some(wrong, "; ")}`;
  const { peers, networks } = found;
  return `well: ${counted(peers.length, "other host")}, ${counted(networks.length, "network")} here`;
}

/** These have words of their own here. */
const SAID: readonly string[] = ["membership", "disk", "names", "controller link", "kernel"];

function problems({ problems = [], networks }: Status): string[] {
  const texts = problems
    .filter(({ what }) => !SAID.includes(what))
    .map(({ what, network: id }) => {
      const network = networks.find((one) => one.id === id);
      return id === undefined ? what : `${what} of ${network?.name ?? id.slice(0, 12)}`;
    });
  return [...new Set(texts)];
}

function hosts({ peers, dataPath, otherVersions }: Status): string[] {
  return [
    ...naming(
      "no mesh connection with",
      peers.filter(({ connected, dialled }) => !connected && dialled !== false),
    ),
    ...naming(
      "no data path to",
      dataPath.filter((proof) => !isReached(proof)),
    ),
    ...naming("small packets alone reach", dataPath.filter(isNarrow)),
    ...naming("another version on", otherVersions),
  ];
}

function networks({ networks, tooLarge }: Status): string[] {
  const named = networks.map((network) => ({ ...network, name: network.name ?? network.id }));
  return [
    ...naming(
      "the kernel does not take",
      named.filter(({ pass }) => pass?.failure !== undefined),
    ),
    ...naming(
      "not in sync on",
      named.filter(({ alone, inSync }) => !alone && !inSync),
    ),
    ...naming(
      "containers ignored on",
      named.filter(({ ignored }) => ignored.length > 0),
    ),
    ...naming(
      "packets too large for this host on",
      tooLarge.map(({ name, id }) => ({ name: name ?? id })),
    ),
  ];
}

function paths({ encryption }: Status): string[] {
  return (["wireguard", "ipsec"] as const).flatMap((kind) =>
    naming(`no path by ${kind} to`, encryption[kind]?.peers.filter(({ path }) => !path) ?? []),
  );
}

function engine({ docker }: Status): string[] {
  return [
    ...naming("not shown on this engine:", docker?.conflicts ?? []),
    ...naming("without a network it had:", docker?.cutOff ?? []),
  ];
}

function names({ names, naming: told, virtualAddresses }: Status): string[] {
  return [
    ...(names?.lastProblem === undefined ? [] : ["names of other hosts"]),
    ...((told?.leftOutNames ?? []).length === 0 ? [] : ["names left out"]),
    ...(virtualAddresses?.lastProblem === undefined ? [] : ["virtual addresses"]),
  ];
}

function naming(what: string, who: readonly { readonly name: string }[]): string[] {
  if (who.length === 0) return [];
  return [
    `${what} ${some(
      who.map(({ name }) => name),
      ", ",
    )}`,
  ];
}

function some(texts: readonly string[], between: string): string {
  const more = texts.length - NAMED;
  return `${texts.slice(0, NAMED).join(between)}${more > 0 ? ` and ${more} more` : ""}`;
}
