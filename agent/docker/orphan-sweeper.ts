import { claimedAddresses, type Endpoint } from "../../shared/documents.ts";
import { OverlayError } from "../../shared/errors.ts";
import type { NetworkRecord } from "../../shared/cluster-state.ts";
import type { DockerNetworkId, EndpointId, NetworkId, NodeId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import type { Clock, Log } from "../../shared/ports.ts";
import type { Bindings } from "../networks/bindings.ts";
import type { Leases } from "../networks/leases.ts";
import type { ContainerId, DockerEngine, EngineNetwork } from "./engine/port.ts";
import { containersOf, forget } from "../networks/forget-endpoint.ts";
import type { LocalNetworks } from "../networks/local-networks.ts";
import type { NameServerFeed } from "../names/name-server-feed.ts";
import { Since } from "../../shared/node/since.ts";

/**
 * What Docker does not list may be what it is just making: only what stays unlisted for longer than a
 * call may take goes.
 */
const UNLISTED_MS = 30_000;
/**
 * An endpoint that joined was listed: Docker keeps it before it calls Join (moby libnetwork, network.createEndpoint), and
 * forgets it when it ends. It is none that is just being made; it has time for Docker's own word that it ends.
 */
const ENDED_MS = 5_000;

export interface OrphanSweeperModules {
  readonly self: NodeId;
  readonly engine: Pick<DockerEngine, "attachments">;
  readonly bindings: Bindings;
  readonly leases: Leases;
  readonly localNetworks: Pick<LocalNetworks, "endpoints" | "find" | "hosted" | "remove">;
  readonly nameServerFeed: Pick<NameServerFeed, "hasJoined" | "leave">;
  readonly clock: Pick<Clock, "nowMs">;
  readonly log: Log;
}

/**
 * Removes views, endpoints and addresses that ended without a call of Docker's: the engine or the agent died between
 * two calls.
 */
export class OrphanSweeper {
  readonly #modules: OrphanSweeperModules;
  readonly #views: Since<DockerNetworkId>;
  readonly #unmade: Since<NetworkId>;
  readonly #endpoints: Since<EndpointId>;
  readonly #ended: Since<EndpointId>;
  readonly #addresses: Since<string>;

  constructor(modules: OrphanSweeperModules, unlistedMs = UNLISTED_MS) {
    const { clock } = modules;
    this.#modules = modules;
    this.#views = new Since(unlistedMs, clock);
    this.#unmade = new Since(unlistedMs, clock);
    this.#endpoints = new Since(unlistedMs, clock);
    this.#ended = new Since(Math.min(ENDED_MS, unlistedMs), clock);
    this.#addresses = new Since(unlistedMs, clock);
  }

  /** When the next look can be worth it; negative: it is late; infinite: nothing is missing. */
  dueInMs(): number {
    const all = [this.#views, this.#unmade, this.#endpoints, this.#ended, this.#addresses];
    return Math.min(...all.map((since) => since.dueInMs()));
  }

  /** Endpoints that Docker and our own documents do not agree on. */
  async differences(): Promise<{ network: NetworkId; text: string }[]> {
    const { localNetworks } = this.#modules;
    const found: { network: NetworkId; text: string }[] = [];
    for (const [network, { name, endpoints: listed }] of await this.#listed()) {
      if (localNetworks.find(network) === undefined) {
        for (const [id, container] of listed)
          found.push({ network, text: onEndedNetwork(name, id, container) });
        continue;
      }
      const own = containersOf(localNetworks.endpoints(network));
      const known = new Set(own.map(({ id }) => id));
      for (const endpoint of own.filter(({ id }) => !listed.has(id))) {
        const which = claimedAddresses(endpoint)[0] ?? endpoint.id;
        const text = `it has no container ${which}, which the tables have: it goes within a minute`;
        found.push({ network, text });
      }
      for (const [id, container] of listed) {
        if (known.has(id)) continue;
        const which = container?.slice(0, 12);
        const next = which === undefined ? "" : `: \`docker restart ${which}\``;
        const text = `it has endpoint ${id.slice(0, 12)}, which the tables have not${next}`;
        found.push({ network, text });
      }
    }
    return found;
  }

  /** Views that went. A new one may not be listed yet. */
  forgetViews(shown: readonly EngineNetwork[]): void {
    const { bindings } = this.#modules;
    const listed = new Set(shown.map(({ id }) => id));
    const missing = [...bindings.networks().keys()].filter((docker) => !listed.has(docker));
    for (const docker of this.#views.over(missing)) bindings.unbind(docker);
  }

  /**
   * Networks that were made for this engine, which never got to have them: they have no name, so no engine
   * shows them, and their subnets would be taken for good.
   */
  endUnmade(shown: readonly EngineNetwork[], networks: readonly NetworkRecord[]): void {
    const { bindings, self } = this.#modules;
    const listed = new Set(shown.map(({ id }) => id));
    const bound = new Set(bindings.networks().values());
    const unmade = networks.filter(
      ({ id, name, createdBy, createdAs }) =>
        name === undefined &&
        createdBy === self &&
        createdAs !== undefined &&
        !listed.has(createdAs) &&
        !bound.has(id) &&
        !bindings.removed().has(id),
    );
    for (const network of this.#unmade.over(unmade.map(({ id }) => id)))
      bindings.markRemoved(network);
  }

  /** Addresses that Docker asked for and never used, or never gave back: not even with their network's view. */
  releaseAddresses(): void {
    const { leases, localNetworks } = this.#modules;
    const unused = new Map<string, { network: NetworkId; ip: Ip }>();
    for (const [network, ips] of leases.all()) {
      const used = new Set(localNetworks.endpoints(network).flatMap(claimedAddresses));
      for (const ip of ips) if (!used.has(ip)) unused.set(`${network} ${ip}`, { network, ip });
    }
    for (const key of this.#addresses.over([...unused.keys()])) {
      const { network, ip } = unused.get(key)!;
      leases.release(network, ip);
    }
  }

  /** Containers that ended. */
  async dropEndpoints(): Promise<void> {
    const { localNetworks, nameServerFeed, log } = this.#modules;
    const busy = (network: NetworkId): boolean =>
      containersOf(localNetworks.endpoints(network)).length > 0;
    const unlisted = new Map<EndpointId, { network: NetworkId; endpoint: Endpoint }>();
    for (const [network, { endpoints: listed }] of await this.#listed(busy))
      for (const endpoint of containersOf(localNetworks.endpoints(network)))
        if (!listed.has(endpoint.id)) unlisted.set(endpoint.id, { network, endpoint });
    const ids = [...unlisted.keys()];
    const over = [
      ...this.#ended.over(ids.filter((id) => nameServerFeed.hasJoined(id))),
      ...this.#endpoints.over(ids.filter((id) => !nameServerFeed.hasJoined(id))),
    ];
    for (const id of over) {
      const { network, endpoint } = unlisted.get(id)!;
      log.warn(
        { network, endpoint: id },
        "removed an endpoint whose container ended without a call from Docker",
      );
      await forget(this.#modules, network, endpoint);
    }
  }

  /**
   * Docker's endpoints by network of the cluster; a network's view that was made again has two ids, and one
   * whose view went has none.
   */
  async #listed(
    wanted: (network: NetworkId) => boolean = () => true,
  ): Promise<Map<NetworkId, Listed>> {
    const { bindings, engine, localNetworks } = this.#modules;
    const listed = new Map<NetworkId, Listed>();
    for (const [docker, network] of bindings.networks()) {
      if (!wanted(network)) continue;
      const held = listed.get(network)?.endpoints ?? new Map();
      const { name, endpoints } = await engine.attachments(docker).catch((error: unknown) => {
        if (error instanceof OverlayError && error.code === "NOT_FOUND")
          return { name: docker, endpoints: [] };
        throw error;
      });
      for (const { endpoint, container } of endpoints) held.set(endpoint, container);
      listed.set(network, { name, endpoints: held });
    }
    for (const network of localNetworks.hosted())
      if (!listed.has(network) && wanted(network))
        listed.set(network, { name: network, endpoints: new Map() });
    return listed;
  }
}

/** What Docker has of a network: its name there, and whose its endpoints are. */
interface Listed {
  readonly name: string;
  readonly endpoints: Map<EndpointId, ContainerId | undefined>;
}

/** It ended while this host was away. Its view cannot go while somebody is on it. */
function onEndedNetwork(name: string, id: EndpointId, container: ContainerId | undefined): string {
  const which = container?.slice(0, 12);
  return which === undefined
    ? `it has ended, and Docker has endpoint ${id.slice(0, 12)} on ${name}`
    : `it has ended, and ${which} is on ${name}: \`docker network disconnect -f ${name} ${which}\``;
}
