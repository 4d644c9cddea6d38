import { notJoined } from "../../core/life.ts";
import type { NetworkDriver } from "./port.ts";
import type { IpamDriver } from "../../networks/ipam-port.ts";

/** What Docker is answered when all of ours goes: what it gives up is as good as done, it gets nothing new. */
export const GONE: { readonly network: NetworkDriver; readonly ipam: IpamDriver } = {
  network: {
    createNetwork: refused,
    deleteNetwork: done,
    createEndpoint: refused,
    deleteEndpoint: done,
    join: refused,
    leave: done,
  },
  ipam: {
    requestPool: refused,
    releasePool: done,
    requestAddress: refused,
    releaseAddress: done,
  },
};

function done(): Promise<void> {
  return Promise.resolve();
}

function refused(): Promise<never> {
  return Promise.reject(notJoined());
}
