import type { Failure } from "../../../shared/errors.ts";

/** Error texts of the engine, with the step that helps; the first match counts. */
const ADVICE: readonly (readonly [RegExp, string])[] = [
  // iptables(8), of chains that the engine makes at its start and never again.
  [
    /No chain\/target\/match by that name|Chain '\S+' does not exist|Couldn't load target `DOCKER/i,
    "Docker's own iptables chains are gone, as after a flush: `systemctl restart docker` makes them again",
  ],
  [/no space left on device/i, "free space on the engine's disk"],
];

/** Of what it refuses without a word of ours: why, it has written there. */
const ITS_LOG = "see the engine's log, `journalctl -u docker`";

/** A failure of the engine's, with what to do about it where the engine does not say. */
export function withDockerAdvice(failure: Failure): Failure {
  const advice = ADVICE.find(([pattern]) => pattern.test(failure.message))?.[1];
  return { ...failure, next: failure.next ?? advice ?? ITS_LOG };
}

/** What is left to do on the engine, as one line: each thing with what happened, each step once. */
export function dockerFailure(problems: readonly Failure[]): Failure | undefined {
  if (problems.length === 0) return undefined;
  const told = problems.map(withDockerAdvice);
  return {
    code: "DOCKER",
    message: told.map(({ message }) => message).join("; "),
    next: [...new Set(told.map(({ next }) => next))].join("; "),
  };
}
