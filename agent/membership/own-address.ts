import type { Failure } from "../../shared/errors.ts";
import type { Ip } from "../../shared/ip.ts";
import type { HostLinks } from "./underlay.ts";

const LOOK_MS = 1000;
/** In a row: a DHCP client may take an address away and give it back at once. */
const LOOKS = 3;

/**
 * The host cannot take part: nobody reaches it where the controller says that it is.
 * @param waiting the controller was asked for another one, and did not answer
 */
export function addressGone(
  ip: Ip,
  waiting?: { readonly address: Ip; readonly controller: Ip },
): Failure {
  const gone = `this host's address ${ip} is on none of its interfaces`;
  const instead =
    "containers stay; or give it the old one again; on a copy of a machine that goes on, `overlay-ts leave --force` and join instead";
  if (waiting === undefined)
    return {
      code: "UNREACHABLE",
      message: gone,
      next: `\`overlay-ts node readdress\` takes the one that it has now (with --advertise-addr, if it has several) once the controller answers, ${instead}`,
    };
  const { address, controller } = waiting;
  return {
    code: "UNREACHABLE",
    message: `${gone}; \`node readdress\` to ${address} waits for the controller at ${controller}, which did not answer`,
    next: `run \`overlay-ts node readdress\` again when it does (on its host: \`systemctl status overlay-ts-controller\`), ${instead}`,
  };
}

export interface OwnAddressModules {
  /** On whose interface this agent listens and sends. */
  readonly local: Ip;
  /** The same by the newest state; undefined: it has none of this host. */
  readonly signed: () => Ip | undefined;
  readonly has: (ip: Ip) => boolean;
  readonly links: Pick<HostLinks, "onChange">;
  /** Containers' packets still leave from the address of before: the agent stays there until none does. */
  readonly isChangingOver: () => boolean;
  /** The agent is of no use as it stands. */
  readonly cannotRun: (failure: Failure) => void;
}

/** Looks whether this host is still where the others look for it: when it may be so no more, and until it is again. */
export class OwnAddress {
  readonly #modules: OwnAddressModules;
  #timer: NodeJS.Timeout | undefined;
  #misses = 0;
  #stopped = false;

  constructor(modules: OwnAddressModules) {
    this.#modules = modules;
  }

  start(): void {
    this.#modules.links.onChange(() => this.soon());
    this.soon();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** This host's addresses, or what the state says of them, may be others. */
  soon(): void {
    if (this.#stopped) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#look();
    }, LOOK_MS);
  }

  #look(): void {
    const { local, signed, has, isChangingOver, cannotRun } = this.#modules;
    const now = signed();
    const isElsewhere = now !== undefined && now !== local;
    const isMoved = isElsewhere && !isChangingOver();
    const isGone = !has(local);
    this.#misses = isMoved || isGone ? this.#misses + 1 : 0;
    if (isElsewhere || isGone) this.soon();
    if (this.#misses < LOOKS) return;
    // Again with the next look: one that is starting does not heed it.
    cannotRun(isGone ? addressGone(local) : addressMoved(local, now ?? local));
  }
}

/** By the controller's word, which the membership on disk may not have yet. */
function addressMoved(local: Ip, now: Ip): Failure {
  return {
    code: "STALE",
    message: `this host's address is ${now} for the others, and its agent works at ${local}`,
    next: "it starts again by itself; if it stays so, run `overlay-ts node readdress` again; if nobody has moved this host, a copy of it did so: first `overlay-ts leave --force` there",
  };
}
