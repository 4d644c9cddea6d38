import { type Failure, OverlayError } from "../../shared/errors.ts";

/**
 * A host's life in the cluster, as its agent has it: what it is, what may happen to it, and what it is then.
 * The states in words, and which command leads out of each: agent/README.md.
 */
export type Life =
  | { readonly state: "not-joined" }
  /** A member, as its files say; the agent comes up. */
  | { readonly state: "starting"; readonly tries: number }
  /** A member whose agent cannot take part, and why; tried again. `tries`: in a row. */
  | { readonly state: "cannot-run"; readonly failure: Failure; readonly tries: number }
  | { readonly state: "member" }
  /** `leave` or `withdraw` is under way. */
  | { readonly state: "ending"; readonly membershipIs: MembershipAfter }
  | { readonly state: "withdrawn" }
  /** The process ends; the host stays what it is. */
  | { readonly state: "stopping" };

/** `leave` forgets the membership, `withdraw` keeps it. */
export type MembershipAfter = "forgotten" | "kept";

export type LifeEvent =
  /** The files say that this host is in no cluster. */
  | { readonly kind: "no-membership" }
  /** The files say that it is in one. */
  | { readonly kind: "joined" }
  | { readonly kind: "started" }
  /** It could not start, or cannot take part any more. */
  | { readonly kind: "cannot-run"; readonly failure: Failure }
  | { readonly kind: "try-again" }
  | { readonly kind: "end"; readonly membershipIs: MembershipAfter }
  /** Nothing of ours is left in kernel and engine. */
  | { readonly kind: "ended" }
  /** Something is left: the host is what it was, and can be told to end again. */
  | { readonly kind: "not-ended" }
  | { readonly kind: "stop" };

export const BORN: Life = { state: "starting", tries: 0 };

/**
 * So many tries in a row are a machine that comes up: an address that is not there yet, a port that the
 * process before still has. Docker's calls wait for it; later they are refused at once.
 */
const PATIENT_TRIES = 5;

/** What the host is after `event`; what cannot happen to it changes nothing. */
export function nextLife(life: Life, event: LifeEvent): Life {
  if (event.kind === "stop") return { state: "stopping" };
  switch (life.state) {
    case "not-joined":
      return event.kind === "joined" ? BORN : life;
    case "starting":
      if (event.kind === "no-membership") return { state: "not-joined" };
      if (event.kind === "started") return { state: "member" };
      return cannotRun(event, life.tries) ?? ending(event) ?? life;
    case "cannot-run":
      if (event.kind === "try-again") return { state: "starting", tries: life.tries };
      return ending(event) ?? life;
    case "member":
      // It is not one that comes up: what it says now lasts until somebody does something.
      return cannotRun(event, PATIENT_TRIES) ?? ending(event) ?? life;
    case "ending":
      if (event.kind === "not-ended") return BORN;
      if (event.kind !== "ended") return life;
      return { state: life.membershipIs === "kept" ? "withdrawn" : "not-joined" };
    case "withdrawn":
      return ending(event) ?? life;
    case "stopping":
      return life;
  }
}

function cannotRun(event: LifeEvent, tries: number): Life | undefined {
  if (event.kind !== "cannot-run") return undefined;
  return { state: "cannot-run", failure: event.failure, tries: tries + 1 };
}

function ending(event: LifeEvent): Life | undefined {
  return event.kind === "end" ? { state: "ending", membershipIs: event.membershipIs } : undefined;
}

/** A call that needs a member waits for one, however the host came to be none. */
export function isWorthWaiting(life: Life): boolean {
  return life.state === "starting" || (life.state === "cannot-run" && life.tries <= PATIENT_TRIES);
}

/** What is said to who asks a host that takes no part; undefined: it does. */
export function whyNoMember(life: Life): Failure | undefined {
  switch (life.state) {
    case "member":
      return undefined;
    case "not-joined":
      return notJoined().toFailure();
    case "starting":
      return STARTING;
    case "cannot-run":
      return life.failure;
    case "ending":
      return ENDING;
    case "withdrawn":
      return WITHDRAWN;
    case "stopping":
      return STOPPING;
  }
}

export const STARTING: Failure = {
  code: "UNREACHABLE",
  message: "the agent is starting",
  next: "ask again in a moment; if it stays so, see `journalctl -u overlay-ts-agent`",
};

const STOPPING: Failure = {
  code: "UNREACHABLE",
  message: "the agent is stopping",
  next: "ask again when it has started: `systemctl start overlay-ts-agent`",
};

const ENDING: Failure = {
  code: "UNREACHABLE",
  message: "this host is leaving its networks",
  next: "wait until the command that does it has ended",
};

const WITHDRAWN: Failure = {
  code: "NOT_JOINED",
  message: "this host has withdrawn from its networks; its membership is kept",
  next: "to take part again: `systemctl restart overlay-ts-agent`; to leave the cluster: `overlay-ts leave`",
};

export function notJoined(): OverlayError {
  return new OverlayError({
    code: "NOT_JOINED",
    message: "this host is not a member of an overlay-ts cluster",
    next: "run `overlay-ts init` on the first host, `overlay-ts join` on the others",
  });
}
