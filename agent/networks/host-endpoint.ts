import { hex } from "../../shared/codec.ts";
import { claimedAddresses, type Endpoint } from "../../shared/documents.ts";
import { OverlayError } from "../../shared/errors.ts";
import { EndpointId, type NetworkId } from "../../shared/ids.ts";
import { type Cidr, cidrOverlaps, type Ip } from "../../shared/ip.ts";
import type { Hasher } from "../../shared/ports.ts";
import type { AttachEndpoint } from "./attach-endpoint.ts";
import type { LocalNetworks } from "./local-networks.ts";
import type { Kernel } from "../kernel/port.ts";
import type { OverlayIpam } from "./ipam.ts";
import type { Reconciler } from "../kernel/reconciler.ts";

const TIMEOUT_MS = 20_000;

export interface HostEndpointsModules {
  readonly localNetworks: Pick<LocalNetworks, "record" | "requireFit" | "endpoints" | "remove">;
  readonly attachEndpoint: Pick<AttachEndpoint, "attach" | "settle">;
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
export class HostEndpoints {
  readonly #modules: HostEndpointsModules;
  /** Under way. What such a one has put may be taken back: nobody is told of it before. */
  readonly #exposing = new Map<NetworkId, Promise<Exposed>>();

  constructor(modules: HostEndpointsModules) {
    this.#modules = modules;
  }

  /** Asked twice it is the same. @throws CONFLICT when the host reaches such a subnet already. */
  expose(network: NetworkId): Promise<Exposed> {
    const underWay = this.#exposing.get(network);
    if (underWay !== undefined) return underWay;
    const exposing = this.#expose(network).finally(() => this.#exposing.delete(network));
    this.#exposing.set(network, exposing);
    return exposing;
  }

  async #expose(network: NetworkId): Promise<Exposed> {
    const { localNetworks, attachEndpoint, ipam, hasher, hostSubnets } = this.#modules;
    const record = localNetworks.record(network);
    const held = this.#endpoint(network);
    if (held !== undefined) return this.#shown(held);
    localNetworks.requireFit(record);
    for (const { link, subnet } of hostSubnets())
      if (record.subnets.some((wanted) => cidrOverlaps(wanted.subnet, subnet)))
        throw new OverlayError({
          code: "CONFLICT",
          message: `this host reaches ${subnet} by ${link} already: it could not tell the two apart`,
          next: "expose a network with another --subnet",
        });
    const id = endpointIdOf(hasher, network);
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const ips = await ipam.allot(record, signal);
    try {
      const wanted = { id, ips, role: "host" as const };
      const endpoint = await attachEndpoint.attach(() => network, wanted, signal);
      await attachEndpoint.settle(network);
      return this.#shown(endpoint);
    } catch (error) {
      localNetworks.remove(network, id);
      ipam.giveBack(network, ips);
      throw error;
    }
  }

  /** @throws NOT_FOUND when the network is not exposed here. */
  async hide(network: NetworkId): Promise<void> {
    const { localNetworks, ipam, reconciler } = this.#modules;
    await this.#exposing.get(network)?.catch(() => {});
    const held = this.#endpoint(network);
    if (held === undefined)
      throw new OverlayError({
        code: "NOT_FOUND",
        message: `this host has no address in network ${localNetworks.record(network).name ?? network}`,
        next: "give it one with `overlay-ts network expose`",
      });
    localNetworks.remove(network, held.id);
    ipam.giveBack(network, this.#shown(held).ips);
    await reconciler.settle(network);
  }

  #endpoint(network: NetworkId): Endpoint | undefined {
    return this.#modules.localNetworks.endpoints(network).find(({ role }) => role === "host");
  }

  #shown({ id, ipv4, ipv6 }: Endpoint): Exposed {
    return { link: this.#modules.kernel.containerLink(id), ips: claimedAddresses({ ipv4, ipv6 }) };
  }
}

/** The same each time: a retry after a crash finds what it began. */
function endpointIdOf(hasher: Hasher, network: NetworkId): EndpointId {
  return EndpointId.parse(hex(hasher.sha256(new TextEncoder().encode(`host on ${network}`))));
}
