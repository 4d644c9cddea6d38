import { z } from "zod";
import { NetworkId } from "../../shared/ids.ts";
import { Ip } from "../../shared/ip.ts";
import type { Disk } from "../store/disk.ts";

const Address = z.object({ network: NetworkId, ip: Ip });

/** Addresses that were given out on this host, on disk before Docker is answered. */
export class Leases {
  readonly #disk: Disk;
  readonly #leased = new Map<NetworkId, Set<Ip>>();

  constructor(disk: Disk) {
    this.#disk = disk;
    for (const { network, ip } of disk.list("address/", Address)) this.#of(network).add(ip);
  }

  of(network: NetworkId): ReadonlySet<Ip> {
    return this.#of(network);
  }

  all(): ReadonlyMap<NetworkId, ReadonlySet<Ip>> {
    return this.#leased;
  }

  /** @throws STORE: it is not given out */
  reserve(network: NetworkId, ip: Ip): void {
    this.#disk.put(addressKey(network, ip), { network, ip });
    this.#of(network).add(ip);
  }

  /** Of an endpoint that runs: counts as given out even when the disk is full. */
  adopt(network: NetworkId, ip: Ip): void {
    this.#disk.owePut(addressKey(network, ip), { network, ip });
    this.#of(network).add(ip);
  }

  release(network: NetworkId, ip: Ip): void {
    this.#leased.get(network)?.delete(ip);
    this.#disk.oweDelete(addressKey(network, ip));
  }

  #of(network: NetworkId): Set<Ip> {
    let leased = this.#leased.get(network);
    if (leased === undefined) this.#leased.set(network, (leased = new Set()));
    return leased;
  }
}

function addressKey(network: NetworkId, ip: Ip): string {
  return `address/${network}/${ip}`;
}
