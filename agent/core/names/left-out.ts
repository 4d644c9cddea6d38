import { BOUNDS } from "../../../shared/bounds.ts";
import { oneLine } from "../../../shared/text.ts";

/** Names of one container on one network that are not said to other hosts. */
export interface LeftOut {
  readonly container: string;
  /** Docker's name of the network. */
  readonly network: string;
  /** Canonical, the first of them. */
  readonly names: readonly string[];
  readonly count: number;
  /** `no-name`: not of RFC 1035's form. `too-many`: beyond what a host says of one container. */
  readonly why: "no-name" | "too-many";
}

const MOST = BOUNDS.endpointNames + BOUNDS.moreEndpointNames;
const NAME_CHARACTERS = 64;

/** For people: `status`, `names`, `verify` and events say it with the same words. */
export function leftOutText({ container, network, names, count, why }: LeftOut): string {
  const shown = names.map((name) => `"${oneLine(name, NAME_CHARACTERS)}"`).join(", ");
  const more = count > names.length ? ` and ${count - names.length} more` : "";
  const reason =
    why === "no-name"
      ? "no DNS names, and nobody can ask for them"
      : `more than the ${MOST} names, or ${BOUNDS.endpointNameCharacters} characters, of one container that other hosts are told`;
  return `names of ${container} on ${network} that are ${reason}: ${shown}${more}`;
}
