import { claimedAddresses } from "../../shared/documents.ts";
import { asFailure, type Failure } from "../../shared/errors.ts";
import type { EndpointId, NetworkId } from "../../shared/ids.ts";
import { cidrContains, type Ip, prefixLength } from "../../shared/ip.ts";
import type { Clock, Log } from "../../shared/ports.ts";
import type { InterfaceAddress } from "../core/data-plane/kernel-state.ts";
import type { LocalNetworks } from "../networks/local-networks.ts";
import type { Kernel } from "../kernel/port.ts";
import type { Joined, JoinedSandboxes } from "../names/joined-sandboxes.ts";
import type { SandboxWays } from "./sandbox-ways.ts";
import { RetriedWork } from "../../shared/node/retried-work.ts";

/** Docker moves an interface in the moment that its Join is answered; after this what is still here is said. */
const SAID_MS = 5000;
/** And after this it is given back. */
const AWAY_MS = 10_000;
/** In one line of `status`. */
const NAMED = 5;
/** For the pass that makes the port again. */
const SOON_MS = 500;

export interface LostInterfacesModules {
  readonly kernel: Pick<Kernel, "containerLink" | "endsHere" | "giveBackEnd">;
  readonly localNetworks: Pick<LocalNetworks, "endpoints" | "find">;
  readonly sandboxes: Pick<JoinedSandboxes, "all">;
  readonly sandboxWays: Pick<SandboxWays, "of">;
  /** The container's namespace is there. */
  readonly isThere: (path: string) => boolean;
  readonly clock: Pick<Clock, "nowMs">;
  /** `failure` says something else. */
  readonly failureChanged?: () => void;
  readonly log: Log;
}

interface Lost extends Joined {
  readonly addresses: readonly InterfaceAddress[];
}

/**
 * Containers that joined and whose interface is not in them: somebody deleted it, or its port, and a pass
 * made the pair again, with an end that nobody asks for. It is given back as Docker gave it.
 */
export class LostInterfaces {
  readonly #modules: LostInterfacesModules;
  #sinceMs: ReadonlyMap<EndpointId, number> = new Map();
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  readonly #retried: RetriedWork;

  constructor(modules: LostInterfacesModules) {
    this.#modules = modules;
    this.#retried = new RetriedWork((failure) => {
      if (failure !== undefined)
        modules.log.warn({ ...failure }, "containers have lost their interfaces");
      modules.failureChanged?.();
    });
  }

  /** Which containers cannot be reached, for they have no interface. */
  failure(): Failure | undefined {
    return this.#retried.failure();
  }

  /** A port may have been lost. */
  soon(): void {
    this.#lookIn(SOON_MS);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** For `verify`. */
  async differences(): Promise<{ network: NetworkId; text: string }[]> {
    return (await this.#lost()).map((lost) => ({
      network: lost.network,
      text:
        `the interface of container ${called(lost)} is not in it: ` +
        "it is given back in some seconds, or when the container is restarted",
    }));
  }

  /** Gives back what has been away for long enough to be sure. */
  async look(): Promise<void> {
    const { clock, kernel, log } = this.#modules;
    const nowMs = clock.nowMs();
    const lost = await this.#lost();
    const since = new Map(
      lost.map(({ endpoint }) => [endpoint, this.#sinceMs.get(endpoint) ?? nowMs] as const),
    );
    this.#sinceMs = since;
    const awayMs = ({ endpoint }: Lost): number => nowMs - (since.get(endpoint) ?? nowMs);
    const without: Lost[] = [];
    const refused: string[] = [];
    for (const one of lost.filter((each) => awayMs(each) >= SAID_MS)) {
      const { network, endpoint, path, addresses } = one;
      try {
        if (awayMs(one) < AWAY_MS) without.push(one);
        else {
          await kernel.giveBackEnd(endpoint, path, addresses, this.#gateways(one));
          log.warn({ network, endpoint }, "a container had lost its interface, and has it again");
        }
      } catch (error) {
        without.push(one);
        refused.push(asFailure(error).message);
      }
    }
    this.#retried.went(withoutInterface(without.map(called), refused));
    const isNew = lost.some((one) => awayMs(one) < SAID_MS);
    if (lost.length > 0) this.#lookIn(isNew ? SAID_MS : AWAY_MS - SAID_MS);
  }

  async #lost(): Promise<Lost[]> {
    const { localNetworks, kernel, sandboxes, isThere } = this.#modules;
    const here = await kernel.endsHere();
    return sandboxes.all().flatMap((joined): Lost[] => {
      const { endpoint: id, network, path } = joined;
      const endpoint = localNetworks.endpoints(network).find((own) => own.id === id);
      if (endpoint === undefined || !here.has(kernel.containerLink(id)) || !isThere(path))
        return [];
      const addresses = claimedAddresses(endpoint).flatMap((ip) => this.#addressed(network, ip));
      return [{ ...joined, addresses }];
    });
  }

  /** One that left by the network has lost its default route with the interface. */
  #gateways({ network, path }: Lost): Ip[] {
    const { localNetworks, sandboxWays } = this.#modules;
    if (sandboxWays.of(path) !== "transit") return [];
    return (localNetworks.find(network)?.subnets ?? []).map(({ gateway }) => gateway);
  }

  #addressed(network: NetworkId, ip: Ip): InterfaceAddress[] {
    const subnets = this.#modules.localNetworks.find(network)?.subnets ?? [];
    return subnets
      .filter(({ subnet }) => cidrContains(subnet, ip))
      .map(({ subnet }) => ({ ip, prefixLength: prefixLength(subnet) }));
  }

  #lookIn(ms: number): void {
    if (this.#stopped) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.look().catch(() => {}), ms);
  }
}

function called({ endpoint, addresses: [address] }: Lost): string {
  return address?.ip ?? endpoint;
}

function withoutInterface(
  containers: readonly string[],
  refused: readonly string[],
): Failure | undefined {
  if (containers.length === 0) return undefined;
  const more = containers.length - NAMED;
  const names = containers.slice(0, NAMED).join(", ") + (more > 0 ? ` and ${more} more` : "");
  const [why] = refused;
  return {
    code: "NETLINK",
    message: `no interface is in the containers that have ${names}${why === undefined ? "" : `, and none can be given back: ${why}`}`,
    next:
      why === undefined
        ? "it is given back in some seconds"
        : "restart them with `docker restart`, or see what the kernel says in `dmesg`",
  };
}
