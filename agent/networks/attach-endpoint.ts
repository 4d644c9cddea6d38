import type { NetworkRecord } from "../../shared/cluster-state.ts";
import { type Endpoint, familiesOf } from "../../shared/documents.ts";
import { assert } from "../../shared/errors.ts";
import type { EndpointId, NetworkId } from "../../shared/ids.ts";
import type { Ip } from "../../shared/ip.ts";
import type { Mac } from "../../shared/mac.ts";
import { readNetwork } from "../core/data-plane/read-network.ts";
import { clashOf, freeMac, sameEndpoint } from "../core/data-plane/endpoint-conflict.ts";
import type { Encryption } from "../encryption/encryption.ts";
import type { GuardReconciler } from "../kernel/guard-reconciler.ts";
import type { Reconciler } from "../kernel/reconciler.ts";
import type { Replication } from "../replication/replication.ts";
import type { LocalNetworks } from "./local-networks.ts";

/** An endpoint waits this long for what peers know of the network, then starts with what is known here. */
const SYNC_MS = 500;

export interface AttachEndpointModules {
  readonly localNetworks: Pick<LocalNetworks, "record" | "endpoints" | "stayOn" | "put">;
  readonly encryption: Pick<Encryption, "require" | "settled">;
  readonly replication: Pick<Replication, "tables" | "completed">;
  readonly reconciler: Pick<Reconciler, "settle">;
  readonly guardReconciler: Pick<GuardReconciler, "settled">;
}

/** An endpoint that is asked for, with the addresses that this host may give it. */
export interface WantedEndpoint {
  readonly id: EndpointId;
  readonly ips: readonly Ip[];
  /** Undefined: one that the first address derives. */
  readonly mac?: Mac | undefined;
  /** The host's own interface; else a container's. */
  readonly role?: "host";
}

/** How an endpoint comes onto a network of this host, a container's (Docker's calls) or the host's own (`expose`). */
export class AttachEndpoint {
  readonly #modules: AttachEndpointModules;

  constructor(modules: AttachEndpointModules) {
    this.#modules = modules;
  }

  /** Asked for again, it is the same. @throws CONFLICT: its address or its MAC is another's */
  propose(record: NetworkRecord, { id, ips, mac, role }: WantedEndpoint): Endpoint {
    const { localNetworks, replication } = this.#modules;
    const own = localNetworks.endpoints(record.id);
    const reading = readNetwork(replication.tables, record);
    const [first] = ips;
    assert(first !== undefined, "an endpoint has an address");
    const held = own.find((endpoint) => endpoint.id === id);
    const endpoint: Endpoint = {
      id,
      ...familiesOf(ips),
      mac: mac ?? held?.mac ?? freeMac(first, own, reading),
      ...(role === undefined ? {} : { role }),
    };
    if (held !== undefined && sameEndpoint(held, endpoint)) return endpoint;
    const clash = clashOf(record, endpoint, own, reading);
    if (clash !== undefined) throw clash;
    return endpoint;
  }

  isThere(network: NetworkId, endpoint: Endpoint): boolean {
    return this.#modules.localNetworks
      .endpoints(network)
      .some((held) => sameEndpoint(held, endpoint));
  }

  /**
   * In this host's document, on disk before it is said. `network` is asked again before: it may have gone meanwhile.
   * @throws when it is not to be: the host stays on the network no longer than for the endpoints that are there
   */
  async attach(
    network: () => NetworkId,
    wanted: WantedEndpoint,
    signal: AbortSignal,
  ): Promise<Endpoint> {
    const { encryption, localNetworks } = this.#modules;
    const entered = network();
    return localNetworks.stayOn(entered, async () => {
      await encryption.require(localNetworks.record(entered));
      signal.throwIfAborted();
      // Meanwhile another call may have brought the same.
      const endpoint = this.propose(localNetworks.record(network()), wanted);
      if (!this.isThere(entered, endpoint)) localNetworks.put(entered, endpoint);
      return endpoint;
    });
  }

  /** Resolves when its first packet finds everything in place. @throws what the kernel refuses */
  async settle(network: NetworkId): Promise<void> {
    const { replication, encryption, localNetworks, reconciler, guardReconciler } = this.#modules;
    await replication.completed(network, SYNC_MS);
    await encryption.settled(localNetworks.record(network));
    await reconciler.settle(network);
    await guardReconciler.settled();
  }
}
