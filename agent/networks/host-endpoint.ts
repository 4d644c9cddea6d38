import { hex } from "../shared/codec.ts";
import { claimedAddresses, type Endpoint, familiesOf } from "../shared/documents.ts";
import { assert, OverlayError } from "../shared/errors.ts";
import { EndpointId, type NetworkId } from "../shared/ids.ts";
import { type Cidr, cidrOverlaps, type Ip } from "../shared/ip.ts";
import { ruleMac } from "../shared/mac.ts";
import type { Hasher } from "../shared/ports.ts";
import type { Encrypting } from "./encrypting.ts";
import type { Hosting } from "./hosting.ts";
import type { Kernel } from "./kernel/port.ts";
import type { OverlayIpam } from "./overlay-ipam.ts";
import type { Reconciler } from "./reconciler.ts";

const TIMEOUT_MS = 20_000;

export interface ExposingModules {
  readonly encrypting: Pick<Encrypting, "require" | "settled">;
  readonly hosting: Hosting;
  readonly ipam: Pick<OverlayIpam, "allot" | "giveBack">;
  readonly reconciler: Pick<Reconciler, "settle">;
  readonly kernel: Pick<Kernel, "containerLink">;
  readonly hasher: Hasher;
  /** Subnets on this host's own interfaces. */
  readonly hostSubnets: () => { link: string; subnet: Cidr }[];
}

/** The host's own interface on a network: where it is, and what it is called. */
export interface Exposed {
  readonly link: string;
  readonly ips: readonly Ip[];
}

/**
 * Gives this host an address in a network, as Weave's `expose` did: an endpoint like a container's
 * whose interface stays with the host. Kept, as every endpoint, in the own document.
 */
export class Exposing {
  readonly #modules: ExposingModules;

  constructor(modules: ExposingModules) {
    this.#modules = modules;
  }

  /** Asked twice it is the same. @throws CONFLICT when the host reaches such a subnet already. */
  async expose(network: NetworkId): Promise<Exposed> {
    const { encrypting, hosting, ipam, reconciler } = this.#modules;
    const record = hosting.record(network);
    const held = this.#endpoint(network);
    if (held !== undefined) return this.#shown(held);
    hosting.requireFit(record);
    const id = endpointIdOf(this.#modules.hasher, network);
    for (const { link, subnet } of this.#modules.hostSubnets())
      if (record.subnets.some((wanted) => cidrOverlaps(wanted.subnet, subnet)))
        throw new OverlayError({
          code: "CONFLICT",
          message: `this host reaches ${subnet} by ${link} already: it could not tell the two apart`,
          next: "expose a network with another --subnet",
        });
    const ips = await ipam.allot(record, AbortSignal.timeout(TIMEOUT_MS));
    try {
      await hosting.enter(network);
      await encrypting.require(record);
      const [first] = ips;
      assert(first !== undefined, "a network has a subnet");
      const endpoint: Endpoint = { id, ...familiesOf(ips), mac: ruleMac(first), role: "host" };
      hosting.put(network, endpoint);
      await encrypting.settled(record);
      await reconciler.settle(network);
      return this.#shown(endpoint);
    } catch (error) {
      hosting.remove(network, id);
      ipam.giveBack(network, ips);
      throw error;
    }
  }

  /** @throws NOT_FOUND when the network is not exposed here. */
  async hide(network: NetworkId): Promise<void> {
    const { hosting, ipam, reconciler } = this.#modules;
    const held = this.#endpoint(network);
    if (held === undefined)
      throw new OverlayError({
        code: "NOT_FOUND",
        message: `this host has no address in network ${hosting.record(network).name ?? network}`,
        next: "give it one with `overlay-ts network expose`",
      });
    hosting.remove(network, held.id);
    ipam.giveBack(network, this.#shown(held).ips);
    await reconciler.settle(network);
  }

  #endpoint(network: NetworkId): Endpoint | undefined {
    return this.#modules.hosting.endpoints(network).find(({ role }) => role === "host");
  }

  #shown({ id, ipv4, ipv6 }: Endpoint): Exposed {
    return { link: this.#modules.kernel.containerLink(id), ips: claimedAddresses({ ipv4, ipv6 }) };
  }
}

/** The same each time: a retry after a crash finds what it began. */
function endpointIdOf(hasher: Hasher, network: NetworkId): EndpointId {
  return EndpointId.parse(hex(hasher.sha256(new TextEncoder().encode(`host on ${network}`))));
}
